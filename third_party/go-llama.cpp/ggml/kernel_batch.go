package ggml

/*
#include "kernel_batch.h"

static tensor ft_batch_node(ggml_object ctx, int64_t n0, int64_t n1, int64_t n2, int64_t n3, tensor a, tensor b, ft_kernel fun) {
	tensor args[2] = { a, b };
	return ggml_custom_4d(ctx, 0, n0, n1, n2, n3, args, 2, fun, -1, NULL);
}
static tensor ft_new_batch_mul(ggml_object ctx, tensor a, tensor b) {
	return ft_batch_node(ctx, a->ne[1], b->ne[1], b->ne[2], b->ne[3], a, b, ft_batch_mul);
}
static tensor ft_new_batch_mul_t(ggml_object ctx, tensor a, tensor dy) {
	return ft_batch_node(ctx, a->ne[0], dy->ne[1], dy->ne[2], dy->ne[3], a, dy, ft_batch_mul_t);
}
static tensor ft_new_batch_outer(ggml_object ctx, tensor b, tensor dy, int64_t p, int64_t q) {
	return ft_batch_node(ctx, b->ne[0], dy->ne[0], p, q, b, dy, ft_batch_outer);
}
*/
import "C"

// The three products of attention run on the CPU in full float32 precision, on all threads; no result depends on their
// number. Operands are F32 and read where they lie: dimension 0 or dimension 1 is contiguous, the other strides are free,
// so permuted and transposed views need no copy. Results are contiguous. The two higher dimensions of a are broadcast:
// P is a multiple of p, Q of q, and head h of b meets head h/(P/p) of a.

// BatchMul is MulMat for F32: a [k, n, p, q], b [k, m, P, Q] → y [n, m, P, Q], Σ_k a[k, n]·b[k, m].
func (c *Context) BatchMul(a, b Tensor) Tensor {
	an, bn := a.NE(), b.NE()
	mustBeHeads("BatchMul", "a", a)
	if !isHeads(b) || bn[0] != an[0] || !isMultiple(bn, an) {
		misuse("BatchMul", "b", b)
	}
	return Tensor{C.ft_new_batch_mul(c.p, a.p, b.p)}
}

// BatchMulT is the gradient of b in y = BatchMul(a, b): a [k, n, p, q], dy [n, m, P, Q] → [k, m, P, Q],
// Σ_n a[k, n]·dy[n, m].
func (c *Context) BatchMulT(a, dy Tensor) Tensor {
	an, yn := a.NE(), dy.NE()
	mustBeHeads("BatchMulT", "a", a)
	if !isHeads(dy) || yn[0] != an[1] || !isMultiple(yn, an) {
		misuse("BatchMulT", "dy", dy)
	}
	return Tensor{C.ft_new_batch_mul_t(c.p, a.p, dy.p)}
}

// BatchOuter is the gradient of a [k, n, p, q] in y = BatchMul(a, b): b [k, m, P, Q], dy [n, m, P, Q] → [k, n, p, q],
// Σ b[k, m]·dy[n, m] over m and over the heads that met one head of a. With b and dy exchanged it is the transpose,
// [n, k, p, q]: the gradient of what a transposed view shows.
func (c *Context) BatchOuter(b, dy Tensor, p, q int64) Tensor {
	bn, yn := b.NE(), dy.NE()
	if !isHeads(b) || p < 1 || q < 1 || bn[2]%p != 0 || bn[3]%q != 0 {
		misuse("BatchOuter", "b", b)
	}
	if !isHeads(dy) || [3]int64(yn[1:]) != [3]int64(bn[1:]) {
		misuse("BatchOuter", "dy", dy)
	}
	return Tensor{C.ft_new_batch_outer(c.p, b.p, dy.p, C.int64_t(p), C.int64_t(q))}
}

func mustBeHeads(op, operand string, t Tensor) {
	if !isHeads(t) {
		misuse(op, operand, t)
	}
}

// isHeads reports whether t is F32 with whole elements between its neighbours and one contiguous dimension of the first two.
func isHeads(t Tensor) bool {
	ne, nb := t.NE(), t.NB()
	return t.Type() == F32 && (nb[0] == 4 || nb[1] == 4 || ne[0] == 1 || ne[1] == 1) && (nb[0]|nb[1]|nb[2]|nb[3])%4 == 0
}

// isMultiple reports whether the higher dimensions of b are multiples of those of a.
func isMultiple(b, a [4]int64) bool { return b[2]%a[2] == 0 && b[3]%a[3] == 0 }
