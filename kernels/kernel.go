package kernels

/*
// The kernels hold their own loops: they do not wait for the flags of the build.
#cgo CFLAGS: -O3
#cgo LDFLAGS: -lm
#include "kernels.h"
*/
import "C"

import (
	"fmt"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// kernel is a C function that computes nodes.
type kernel struct {
	name    string
	compute ggml.CustomFunc            // an ft_kernel
	scratch func(node C.tensor) uint64 // the floats of scratch memory that a thread takes for a node; nil: none
}

// kernels are all of them, by their function.
var kernels = map[ggml.CustomFunc]*kernel{}

func newKernel(name string, compute ggml.CustomFunc, scratch func(node C.tensor) uint64) *kernel {
	if other := kernels[compute]; other != nil {
		panic("internal error: kernels: " + name + " and " + other.name + " are one function")
	}
	k := &kernel{name, compute, scratch}
	kernels[compute] = k
	return k
}

// params are a node's own parameters, which the kernel reads with ft_param.
type params []float32

// node adds an F32 node.
func (k *kernel) node(c *ggml.Context, ne [4]int64, p params, operands ...ggml.Tensor) ggml.Tensor {
	return p.set(c.Custom(k.compute, ggml.F32, ne, operands...))
}

// inPlace adds a node in the memory of a, its first operand.
func (k *kernel) inPlace(c *ggml.Context, p params, a ggml.Tensor, others ...ggml.Tensor) ggml.Tensor {
	return p.set(c.CustomInPlace(k.compute, a, others...))
}

func (p params) set(node ggml.Tensor) ggml.Tensor {
	for i, v := range p {
		node.SetParamF(ggml.FirstParam+i, v)
	}
	return node
}

// param returns a node's i-th own parameter.
func param(node ggml.Tensor, i int) float32 { return node.ParamF(ggml.FirstParam + i) }

// Name returns the name of the kernel that computes the node, empty for an operation of ggml's.
func Name(node ggml.Tensor) string {
	if k := kernels[node.CustomFunc()]; k != nil {
		return k.name
	}
	return ""
}

// native returns the tensor as the C side sees it.
func native(t ggml.Tensor) C.tensor { return C.tensor(t.Pointer()) }

// evenRows reports whether the rows of t, F32, lie at one distance from each other over all higher dimensions.
func evenRows(t ggml.Tensor) bool {
	ne, nb := t.NE(), t.NB()
	return t.Type() == ggml.F32 && nb[0] == 4 && nb[1]%4 == 0 && (ne[2] == 1 || nb[2] == nb[1]*ne[1]) && (ne[3] == 1 || nb[3] == nb[1]*ne[1]*ne[2])
}

// isMatrix reports whether t is F32, contiguous and of the shape [n0, n1].
func isMatrix(t ggml.Tensor, n0, n1 int64) bool {
	return t.Type() == ggml.F32 && t.IsContiguous() && t.NE() == [4]int64{n0, n1, 1, 1}
}

// part adds a contiguous view [n0, n1, n2, n3] of an F32 tensor at an offset in bytes.
func part(c *ggml.Context, t ggml.Tensor, offset, n0, n1, n2, n3 int64) ggml.Tensor {
	return c.View(t, [4]int64{n0, n1, n2, n3}, [4]int64{4, 4 * n0, 4 * n0 * n1, 4 * n0 * n1 * n2}, offset)
}

func misuse(op, operand string, t ggml.Tensor) {
	panic(fmt.Sprintf("internal error: kernels: %s: operand %s is %s %v with strides %v", op, operand, t.Type(), t.NE(), t.NB()))
}
