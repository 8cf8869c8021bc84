package ggml

/*
#include <string.h>
#include "abi.h"

static tensor ft_new_custom(struct ggml_context *ctx, void *fun, enum ggml_type type, const int64_t *ne, tensor *args, int n) {
	return ggml_custom_4d(ctx, type, ne[0], ne[1], ne[2], ne[3], args, n, (ggml_custom_op_t)fun, GGML_N_TASKS_MAX, NULL);
}
static tensor ft_new_custom_inplace(struct ggml_context *ctx, void *fun, tensor a, tensor *args, int n) {
	return ggml_custom_inplace(ctx, a, args, n, (ggml_custom_op_t)fun, GGML_N_TASKS_MAX, NULL);
}
// ggml keeps the function of a custom operation in the first words of its parameters.
static void *ft_custom_of(tensor t) {
	void *fun;
	memcpy(&fun, t->op_params, sizeof fun);
	return fun;
}
*/
import "C"

import (
	"math"
	"unsafe"
)

// CustomFunc is the address of a C function that computes a node on the CPU. Every thread ith of nth calls it, and together
// they write the whole node:
//
//	void f(struct ggml_tensor *node, int ith, int nth, void *unused);
type CustomFunc = unsafe.Pointer

// FirstParam is the first word of the parameters that is a custom operation's own. There are eight.
const FirstParam = C.FT_PARAM

// Custom returns a node of type t and shape ne that f computes from its operands, nine at most.
func (c *Context) Custom(f CustomFunc, t Type, ne [4]int64, operands ...Tensor) Tensor {
	args := handles(operands)
	return Tensor{C.ft_new_custom(c.p, f, C.enum_ggml_type(t), (*C.int64_t)(&ne[0]), unsafe.SliceData(args), C.int(len(args)))}
}

// CustomInPlace returns a view of a that f computes in a's memory, from a, its first operand, and the others.
func (c *Context) CustomInPlace(f CustomFunc, a Tensor, others ...Tensor) Tensor {
	args := handles(others)
	return Tensor{C.ft_new_custom_inplace(c.p, f, a.p, unsafe.SliceData(args), C.int(len(args)))}
}

func handles(tensors []Tensor) []C.tensor {
	all := make([]C.tensor, len(tensors))
	for i, t := range tensors {
		all[i] = t.p
	}
	return all
}

// CustomFunc returns what computes a node of Custom or CustomInPlace, nil for every other tensor.
func (t Tensor) CustomFunc() CustomFunc {
	if t.IsLeaf() || t.Op() != "CUSTOM" {
		return nil
	}
	return C.ft_custom_of(t.p)
}

// SetParamF sets the i-th word of the operation's parameters.
func (t Tensor) SetParamF(i int, v float32) { t.p.op_params[i] = C.int32_t(math.Float32bits(v)) }
