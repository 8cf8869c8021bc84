package ggml

/*
#include "gemm.h"

static tensor ft_node(ggml_object ctx, int64_t n0, tensor rows, tensor *args, int n_args, ft_kernel fun, float scale) {
	return ft_set_param(ggml_custom_4d(ctx, 0, n0, rows->ne[1], rows->ne[2], rows->ne[3], args, n_args, fun, -1, NULL), 0, scale);
}
static tensor ft_new_mul_mat(ggml_object ctx, tensor w, tensor x) {
	tensor args[2] = { w, x };
	return ft_node(ctx, w->ne[1], x, args, 2, ft_mul_mat, 0);
}
static tensor ft_new_mul_mat_t(ggml_object ctx, tensor w, tensor dy) {
	tensor args[2] = { w, dy };
	return ft_node(ctx, w->ne[0], dy, args, 2, ft_mul_mat_t, 0);
}
static tensor ft_new_dual(ggml_object ctx, bool transposed, tensor w, tensor x, tensor a, tensor b, tensor c, tensor d, float scale) {
	tensor args[6] = { w, x, a, b, c, d };
	return ft_node(ctx, w->ne[transposed ? 0 : 1], x, args, 6, transposed ? ft_dual_mul_mat_t : ft_dual_mul_mat, scale);
}
*/
import "C"

import "fmt"

// MulMat32 is MulMat for a matrix w [n_in, n_out] of any type that can be dequantized and x [n_in, N, …] F32, in full
// float32 precision: [n_out, N, …]. Each block of w is dequantized once for all N. It runs on the CPU; the result does
// not depend on the number of threads.
func (c *Context) MulMat32(w, x Tensor) Tensor {
	mustMultiply("MulMat32", w, x, 0)
	return Tensor{C.ft_new_mul_mat(c.p, w.p, x.p)}
}

// MulMatT32 is the product with the transposed matrix: w [n_in, n_out], dy [n_out, N, …] F32 → [n_in, N, …],
// Σ_o w[:, o]·dy[o, :]. Otherwise as MulMat32.
func (c *Context) MulMatT32(w, dy Tensor) Tensor {
	mustMultiply("MulMatT32", w, dy, 1)
	return Tensor{C.ft_new_mul_mat_t(c.p, w.p, dy.p)}
}

// DualMulMat is MulMat32 of w + s·ReLU(B·A) ⊙ sign(D·C) with x, for a [n_in, r1], b [r1, n_out], cc [n_in, r2] and
// d [r2, n_out], all F32: the sum is formed tile by tile inside the product. Where B·A is 0 it is w to the bit.
func (c *Context) DualMulMat(w, x, a, b, cc, d Tensor, scale float32) Tensor {
	mustMultiply("DualMulMat", w, x, 0)
	mustBeFactors("DualMulMat", w.NE()[0], w.NE()[1], a, b, cc, d)
	return Tensor{C.ft_new_dual(c.p, false, w.p, x.p, a.p, b.p, cc.p, d.p, C.float(scale))}
}

// DualMulMatT is MulMatT32 of the same sum with dy.
func (c *Context) DualMulMatT(w, dy, a, b, cc, d Tensor, scale float32) Tensor {
	mustMultiply("DualMulMatT", w, dy, 1)
	mustBeFactors("DualMulMatT", w.NE()[0], w.NE()[1], a, b, cc, d)
	return Tensor{C.ft_new_dual(c.p, true, w.p, dy.p, a.p, b.p, cc.p, d.p, C.float(scale))}
}

// mustMultiply checks the operands of a product whose sum runs over dimension dim of w.
func mustMultiply(op string, w, x Tensor, dim int) {
	ne, nb := w.NE(), w.NB()
	switch {
	case !w.Type().CanDequantize() || ne[2] != 1 || ne[3] != 1 || nb[0] != w.Type().BlockBytes():
		misuse(op, "w", w)
	case x.Type() != F32 || x.NE()[0] != ne[dim] || !evenRows(x):
		misuse(op, "x", x)
	}
}

func mustBeFactors(op string, nIn, nOut int64, a, b, c, d Tensor) {
	r1, r2 := a.NE()[1], c.NE()[1]
	for i, want := range [4][2]int64{{nIn, r1}, {r1, nOut}, {nIn, r2}, {r2, nOut}} {
		t := [4]Tensor{a, b, c, d}[i]
		if t.Type() != F32 || !t.IsContiguous() || t.NE() != [4]int64{want[0], want[1], 1, 1} {
			misuse(op, "abcd"[i:i+1], t)
		}
	}
}

// evenRows reports whether the rows of t, F32, lie at one distance from each other over all higher dimensions.
func evenRows(t Tensor) bool {
	ne, nb := t.NE(), t.NB()
	return nb[0] == 4 && nb[1]%4 == 0 && (ne[2] == 1 || nb[2] == nb[1]*ne[1]) && (ne[3] == 1 || nb[3] == nb[1]*ne[1]*ne[2])
}

func misuse(op, operand string, t Tensor) {
	panic(fmt.Sprintf("internal error: ggml: %s: operand %s is %s %v with strides %v", op, operand, t.Type(), t.NE(), t.NB()))
}
