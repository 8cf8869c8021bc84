package llama

/*
#include <stdlib.h>
#include "bridge.h"
*/
import "C"

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"
)

// ftypes are llama.cpp's mixes of tensor types (enum llama_ftype in llama.h), by the names that its quantizer takes.
var ftypes = map[string]C.enum_llama_ftype{
	"f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13,
	"q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "iq4_nl": 25, "iq4_xs": 30, "bf16": 32,
}

// QuantizeTypes lists the names that Quantize takes.
func QuantizeTypes() []string {
	var names []string
	for name := range ftypes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Quantize writes the model in the GGUF file in as out, with the tensor types of a mix such as "q8_0" or "q4_k_m", as
// llama.cpp's own quantizer chooses them. threads 0 is as many as there are cores. What it leaves at out after an error is
// not a model.
func Quantize(in, out, mix string, threads int) error {
	if err := Check(); err != nil {
		return err
	}
	op := fmt.Sprintf("quantize %q", in)
	ftype, ok := ftypes[strings.ToLower(mix)]
	if !ok {
		return errorf(op, "type %q: want one of %s", mix, strings.Join(QuantizeTypes(), ", "))
	}
	if err := checkHeader(op, in, true); err != nil {
		return err
	}
	cin, cout := C.CString(in), C.CString(out)
	defer C.free(unsafe.Pointer(cin))
	defer C.free(unsafe.Pointer(cout))
	var e C.fl_error
	if code := C.fl_quantize(cin, cout, ftype, C.int(threads), &e); code != 0 {
		return nativeError(op, int(code), &e, "failed")
	}
	return nil
}
