package ggml

/*
#include <stdlib.h>
#include <string.h>
#include "abi.h"
#include "guard.h"
*/
import "C"

import (
	"math"
	"unsafe"
)

// Tensor is a handle to a ggml tensor: a leaf (weight, input, parameter) or a node of a graph. The zero Tensor is none.
// Handles compare equal when they are the same tensor. A handle is valid as long as the Context that made it.
type Tensor struct{ p C.tensor }

// FromPointer wraps a struct ggml_tensor that other native code made, such as the nodes of a traced graph.
func FromPointer(p unsafe.Pointer) Tensor { return Tensor{C.tensor(p)} }

// Pointer returns the address of the struct ggml_tensor.
func (t Tensor) Pointer() unsafe.Pointer { return unsafe.Pointer(t.p) }

// IsNil reports whether t is no tensor.
func (t Tensor) IsNil() bool { return t.p == nil }

// Name returns the tensor's name, for a weight its GGUF name.
func (t Tensor) Name() string { return C.GoString(&t.p.name[0]) }

// SetName names the tensor and returns it. ggml keeps the first 63 bytes.
func (t Tensor) SetName(name string) Tensor {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	C.ggml_set_name(t.p, s)
	return t
}

// Type returns the element type.
func (t Tensor) Type() Type { return Type(t.p._type) }

// NE returns the shape, fastest dimension first.
func (t Tensor) NE() [4]int64 {
	return [4]int64{int64(t.p.ne[0]), int64(t.p.ne[1]), int64(t.p.ne[2]), int64(t.p.ne[3])}
}

// NB returns the strides in bytes.
func (t Tensor) NB() [4]int64 {
	return [4]int64{int64(t.p.nb[0]), int64(t.p.nb[1]), int64(t.p.nb[2]), int64(t.p.nb[3])}
}

// Elements returns the number of elements.
func (t Tensor) Elements() int64 { return int64(C.ggml_nelements(t.p)) }

// Bytes returns ggml_nbytes, the extent of the tensor's data.
func (t Tensor) Bytes() int64 { return int64(C.ggml_nbytes(t.p)) }

// Op returns ggml_op_desc: the operation's name, for the unary and gated families the function's own ("SILU",
// "SWIGLU"), and "NONE" for a leaf. Names, unlike ids, mean the same in every version of ggml.
func (t Tensor) Op() string { return C.GoString(C.ggml_op_desc(t.p)) }

// IsLeaf reports whether nothing computes the tensor.
func (t Tensor) IsLeaf() bool { return t.p.op == 0 }

// Src returns the i-th operand, none if there is none. i is 0 to 9.
func (t Tensor) Src(i int) Tensor { return Tensor{t.p.src[i]} }

// MaxSrc is the number of operand slots of a tensor.
const MaxSrc = C.GGML_MAX_SRC

// ViewSrc returns the tensor whose memory a view shares: always the root, never another view. None if t is no view.
func (t Tensor) ViewSrc() Tensor { return Tensor{t.p.view_src} }

// ViewOffset returns the byte offset of a view in its root.
func (t Tensor) ViewOffset() int64 { return int64(t.p.view_offs) }

// Param returns the i-th 32-bit word of the operation's parameters as an integer.
func (t Tensor) Param(i int) int32 { return int32(t.p.op_params[i]) }

// ParamF returns the i-th word of the operation's parameters as a float.
func (t Tensor) ParamF(i int) float32 { return math.Float32frombits(uint32(t.p.op_params[i])) }

// IsContiguous reports whether the elements lie in order without gaps.
func (t Tensor) IsContiguous() bool { return bool(C.ggml_is_contiguous(t.p)) }

// SameShape reports whether both have the same shape.
func (t Tensor) SameShape(o Tensor) bool { return t.NE() == o.NE() }

// IsWeight reports whether the tensor lies in a buffer of model weights.
func (t Tensor) IsWeight() bool {
	return t.p.buffer != nil && C.ggml_backend_buffer_get_usage(t.p.buffer) == C.GGML_BACKEND_BUFFER_USAGE_WEIGHTS
}

// SetInput keeps the tensor's memory from being used before the graph starts; SetOutput from being reused after.
func (t Tensor) SetInput() Tensor  { C.ggml_set_input(t.p); return t }
func (t Tensor) SetOutput() Tensor { C.ggml_set_output(t.p); return t }

// CopyParams gives t the operation parameters of o.
func (t Tensor) CopyParams(o Tensor) { t.p.op_params = o.p.op_params }

// HasData reports whether memory was given to the tensor.
func (t Tensor) HasData() bool { return t.p.data != nil }

// Floats returns a view of a contiguous F32 tensor in host memory, valid as long as its buffer. It panics on any other.
func (t Tensor) Floats() []float32 {
	t.mustHost(F32)
	return unsafe.Slice((*float32)(t.p.data), t.Elements())
}

// Ints does what Floats does, for an I32 tensor.
func (t Tensor) Ints() []int32 {
	t.mustHost(I32)
	return unsafe.Slice((*int32)(t.p.data), t.Elements())
}

// Raw returns a view of the bytes of a contiguous tensor in host memory, as Floats.
func (t Tensor) Raw() []byte {
	t.mustHost(t.Type())
	return unsafe.Slice((*byte)(t.p.data), t.Bytes())
}

func (t Tensor) mustHost(want Type) {
	switch {
	case t.p.data == nil:
		panic("internal error: ggml: " + t.Name() + " has no memory")
	case t.Type() != want:
		panic("internal error: ggml: " + t.Name() + " is " + t.Type().String() + ", want " + want.String())
	case t.p.buffer != nil && !bool(C.ggml_backend_buffer_is_host(t.p.buffer)):
		panic("internal error: ggml: " + t.Name() + " is not in host memory")
	case !t.IsContiguous():
		panic("internal error: ggml: " + t.Name() + " is not contiguous")
	}
}

// SetFloats copies v, all elements, into the tensor, wherever its memory is. What is copied to or from a device may fail there.
func (t Tensor) SetFloats(v []float32) error {
	t.mustFit(F32, len(v))
	return t.set(unsafe.Pointer(unsafe.SliceData(v)), 4*len(v))
}

// GetFloats copies all elements of the tensor into v, wherever its memory is.
func (t Tensor) GetFloats(v []float32) error {
	t.mustFit(F32, len(v))
	if len(v) == 0 {
		return nil
	}
	return caught(C.ft_get(t.p, unsafe.Pointer(unsafe.SliceData(v)), C.size_t(4*len(v))), "reading a tensor", t)
}

// SetRaw copies b, all bytes of a contiguous tensor of any type, into it.
func (t Tensor) SetRaw(b []byte) error {
	if int64(len(b)) != t.Bytes() {
		panic("internal error: ggml: " + t.Name() + " does not hold what is copied")
	}
	return t.set(unsafe.Pointer(unsafe.SliceData(b)), len(b))
}

// SetInts does what SetFloats does, for an I32 tensor.
func (t Tensor) SetInts(v []int32) error {
	t.mustFit(I32, len(v))
	return t.set(unsafe.Pointer(unsafe.SliceData(v)), 4*len(v))
}

func (t Tensor) set(data unsafe.Pointer, bytes int) error {
	if bytes == 0 {
		return nil
	}
	return caught(C.ft_set(t.p, data, C.size_t(bytes)), "writing a tensor", t)
}

// Zero sets all bytes of a tensor with memory to zero, wherever that is.
func (t Tensor) Zero() error { return caught(C.ft_zero(t.p), "clearing a tensor", t) }

// CopyTo copies t into a tensor of the same type, shape and strides, wherever each lies.
func (t Tensor) CopyTo(twin Tensor) error {
	return caught(C.ft_copy(t.p, twin.p), "copying a tensor", t)
}

func (t Tensor) mustFit(want Type, n int) {
	if t.Type() != want || t.Elements() != int64(n) {
		panic("internal error: ggml: " + t.Name() + " does not hold what is copied")
	}
}
