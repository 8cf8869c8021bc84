package ggml

/*
#include <stdlib.h>
#include "abi.h"

static void ft_to_float(enum ggml_type type, const void *src, float *dst, int64_t n) {
	ggml_get_type_traits(type)->to_float(src, dst, n);
}
static bool ft_has_to_float(enum ggml_type type) { return ggml_get_type_traits(type)->to_float != NULL; }
static bool ft_has_from_float(enum ggml_type type) { return ggml_get_type_traits(type)->from_float_ref != NULL; }
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// Type is a ggml tensor type by its id in ggml.h (enum ggml_type), which is also its id in a GGUF file.
type Type int32

// The types that code here names. Others are used by their id, as read from a file.
const (
	F32  Type = C.GGML_TYPE_F32
	F16  Type = C.GGML_TYPE_F16
	I32  Type = C.GGML_TYPE_I32
	I64  Type = C.GGML_TYPE_I64
	BF16 Type = C.GGML_TYPE_BF16
)

// typeCount bounds the ids that may be passed to ggml, which indexes a table with them unchecked.
const typeCount = C.GGML_TYPE_COUNT

// String returns ggml_type_name: "f32", "q4_K".
func (t Type) String() string {
	if t < 0 || t >= typeCount {
		return fmt.Sprintf("type %d", int32(t))
	}
	return C.GoString(C.ggml_type_name(C.enum_ggml_type(t)))
}

// BlockSize returns the number of elements in a block, 0 for an id that ggml does not know.
func (t Type) BlockSize() int64 {
	if t < 0 || t >= typeCount {
		return 0
	}
	return int64(C.ggml_blck_size(C.enum_ggml_type(t)))
}

// BlockBytes returns the number of bytes in a block, 0 for an id that ggml does not know.
func (t Type) BlockBytes() int64 {
	if t < 0 || t >= typeCount {
		return 0
	}
	return int64(C.ggml_type_size(C.enum_ggml_type(t)))
}

// CanDequantize reports whether Dequantize takes the type.
func (t Type) CanDequantize() bool {
	return t == F32 || t.BlockBytes() > 0 && bool(C.ft_has_to_float(C.enum_ggml_type(t)))
}

// CanQuantize reports whether Quantize takes the type without an importance matrix.
func (t Type) CanQuantize() bool {
	if t == F32 {
		return true
	}
	return t.BlockBytes() > 0 && bool(C.ft_has_from_float(C.enum_ggml_type(t))) && !bool(C.ggml_quantize_requires_imatrix(C.enum_ggml_type(t)))
}

// Dequantize decodes len(dst) elements of type t from src with ggml's to_float (ggml-quants.c). The lengths must agree
// to the byte. Any number of goroutines may call it at once.
func Dequantize(t Type, src []byte, dst []float32) error {
	n := int64(len(dst))
	if !t.CanDequantize() {
		return fmt.Errorf("ggml: type %q cannot be dequantized", t)
	}
	if n%t.BlockSize() != 0 || int64(len(src)) != n/t.BlockSize()*t.BlockBytes() {
		return fmt.Errorf("ggml: %d elements of type %q need %d bytes in whole blocks of %d elements, got %d bytes",
			n, t, n/t.BlockSize()*t.BlockBytes(), t.BlockSize(), len(src))
	}
	if n == 0 {
		return nil
	}
	if t == F32 {
		copy(dst, unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(src))), n))
		return nil
	}
	C.ft_to_float(C.enum_ggml_type(t), unsafe.Pointer(unsafe.SliceData(src)), (*C.float)(unsafe.SliceData(dst)), C.int64_t(n))
	return nil
}

// Quantize encodes src, rows of nPerRow elements, as type t with ggml_quantize_chunk. imatrix is nil or the importance of
// each of the nPerRow columns. Any number of goroutines may call it at once.
func Quantize(t Type, src []float32, nPerRow int, imatrix []float32) ([]byte, error) {
	switch {
	case !t.CanQuantize() && imatrix == nil, t.BlockBytes() == 0:
		return nil, fmt.Errorf("ggml: type %q cannot be quantized to", t)
	case nPerRow <= 0 || len(src)%nPerRow != 0 || int64(nPerRow)%t.BlockSize() != 0:
		return nil, fmt.Errorf("ggml: rows of %d elements in %d do not fit blocks of %d of type %q", nPerRow, len(src), t.BlockSize(), t)
	case imatrix != nil && len(imatrix) != nPerRow:
		return nil, fmt.Errorf("ggml: importance of %d columns, want %d", len(imatrix), nPerRow)
	}
	dst := make([]byte, int64(len(src))/t.BlockSize()*t.BlockBytes())
	if len(dst) == 0 {
		return dst, nil
	}
	var importance *C.float
	if imatrix != nil {
		importance = (*C.float)(unsafe.SliceData(imatrix))
	}
	C.ggml_quantize_chunk(C.enum_ggml_type(t), (*C.float)(unsafe.SliceData(src)), unsafe.Pointer(unsafe.SliceData(dst)), 0,
		C.int64_t(len(src)/nPerRow), C.int64_t(nPerRow), importance)
	return dst, nil
}
