package llama

/*
#include "bridge.h"
#include "../ggml/release.h"
*/
import "C"

import (
	"sync"
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Check compares the linked llama.cpp with the headers that this package was compiled against: the release, and the sizes
// of the structs that cross the border by value. A library of another release is an *Error instead of a crash later.
// LoadModel calls it; it does its work once.
var Check = sync.OnceValue(func() error {
	C.llama_backend_init()
	if err := ggml.Check(); err != nil {
		return err
	}
	if err := checkRelease(C.LLAMA_RELEASE, C.GoString(C.llama_version())); err != nil {
		return err
	}
	var mp C.struct_llama_model_params
	var cp C.struct_llama_context_params
	var qp C.struct_llama_model_quantize_params
	for _, s := range []struct {
		name           string
		written, bytes uintptr
	}{
		{"llama_model_params", uintptr(C.fl_written_model_params()), unsafe.Sizeof(mp)},
		{"llama_context_params", uintptr(C.fl_written_context_params()), unsafe.Sizeof(cp)},
		{"llama_model_quantize_params", uintptr(C.fl_written_quantize_params()), unsafe.Sizeof(qp)},
	} {
		if err := checkSize(s.name, s.written, s.bytes); err != nil {
			return err
		}
	}
	return nil
})

// checkRelease compares the release whose headers were compiled with, "" when nobody knows, and the linked one.
func checkRelease(built, linked string) error {
	if built == "" || built == linked {
		return nil
	}
	return errorf("check", "the linked llama.cpp is release %s, the program was compiled for %s: build it again", linked, built)
}

// checkSize compares what the library writes for its default parameters with the struct in the headers. It may leave the
// padding behind the last field unwritten.
func checkSize(name string, written, bytes uintptr) error {
	const padding = unsafe.Alignof(uintptr(0)) - 1
	if written+padding >= bytes && written <= bytes {
		return nil
	}
	return errorf("check", "%s takes %d bytes, want %d: the linked llama.cpp is of another release than its headers", name, written, bytes)
}
