package ggml

/*
#include "gemm.h"

static tensor ft_row_node(ggml_object ctx, tensor like, tensor a, tensor b, ft_kernel fun, float param) {
	tensor args[2] = { a, b };
	return ft_set_param(ggml_custom_4d(ctx, 0, like->ne[0], like->ne[1], like->ne[2], like->ne[3], args, 2, fun, -1, NULL), 0, param);
}
static tensor ft_new_rms_norm_back(ggml_object ctx, tensor x, tensor dy, float eps) {
	return ft_row_node(ctx, x, x, dy, ft_rms_norm_back, eps);
}
static tensor ft_new_rms_norm_mul(ggml_object ctx, tensor x, tensor w, float eps) {
	return ft_row_node(ctx, x, x, w, ft_rms_norm_mul, eps);
}
static tensor ft_new_rms_norm_mul_back(ggml_object ctx, tensor x, tensor w, tensor dy, float eps) {
	tensor args[3] = { x, dy, w };
	return ft_set_param(ggml_custom_4d(ctx, 0, x->ne[0], x->ne[1], x->ne[2], x->ne[3], args, 3, ft_rms_norm_back, -1, NULL), 0, eps);
}
static tensor ft_new_rotate(ggml_object ctx, tensor x, tensor table, bool back, bool halves) {
	return ft_set_param(ft_row_node(ctx, x, x, table, ft_rotate, back ? 1 : 0), 1, halves ? 1 : 0);
}
static tensor ft_new_soft_max_back(ggml_object ctx, tensor y, tensor dy, float scale) {
	return ft_row_node(ctx, y, y, dy, ft_soft_max_back, scale);
}
static tensor ft_new_swiglu_back_fused(ggml_object ctx, tensor x, tensor dy, bool swapped) {
	return ft_row_node(ctx, x, x, dy, ft_swiglu_back_fused, swapped ? 1 : 0);
}
static tensor ft_new_swiglu_back(ggml_object ctx, tensor g, tensor u, tensor dy) {
	tensor args[3] = { g, u, dy };
	return ggml_custom_4d(ctx, 0, g->ne[0], g->ne[1] * g->ne[2] * g->ne[3], 2, 1, args, 3, ft_swiglu_back, -1, NULL);
}
*/
import "C"

// The derivatives below run on the CPU, by rows on all threads; no result depends on their number, and none is computed
// in the memory of an operand. Operands are F32 of one shape, their rows at one distance from each other.

// RMSNormBack is dx for y = x/√(mean(x²) + eps) by rows of n: (dy − y·mean(dy ⊙ y))/√(mean(x²) + eps).
func (c *Context) RMSNormBack(x, dy Tensor, eps float32) Tensor {
	mustBeRows("RMSNormBack", x, dy)
	return Tensor{C.ft_new_rms_norm_back(c.p, x.p, dy.p, C.float(eps))}
}

// RMSNormMul is w ⊙ x/√(mean(x²) + eps) by rows of n, w [n]. RMSNormMulBack is its dx.
func (c *Context) RMSNormMul(x, w Tensor, eps float32) Tensor {
	mustBeRows("RMSNormMul", x, x)
	mustBeNormWeight("RMSNormMul", x, w)
	return Tensor{C.ft_new_rms_norm_mul(c.p, x.p, w.p, C.float(eps))}
}
func (c *Context) RMSNormMulBack(x, w, dy Tensor, eps float32) Tensor {
	mustBeRows("RMSNormMulBack", x, dy)
	mustBeNormWeight("RMSNormMulBack", x, w)
	return Tensor{C.ft_new_rms_norm_mul_back(c.p, x.p, w.p, dy.p, C.float(eps))}
}

// RopeTable holds the angles of a ROPE node for Rotate: what the node's rotation makes of ones, [dims, 1, N], whatever
// scaling of frequencies and magnitudes it knows. pos are the positions [N]. All nodes with equal parameters can share one.
func (c *Context) RopeTable(node, pos, freqFactors Tensor) Tensor {
	ne := [4]int64{int64(node.Param(1)), 1, pos.NE()[0], 1}
	return c.Like(node, ne, c.Fill(c.NewTensor(F32, ne[:3]...), 1), pos, freqFactors)
}

// CanRotate reports whether Rotate does what a ROPE node over x [n, heads, N] does: pairs of neighbours (mode 0) or of
// halves (mode 2), by one position a token.
func CanRotate(node, x, pos Tensor) bool {
	ne, dims, mode := x.NE(), int64(node.Param(1)), node.Param(2)
	return x.Type() == F32 && x.NB()[0] == 4 && ne[3] == 1 && pos.NE() == [4]int64{ne[2], 1, 1, 1} &&
		(mode == 0 || mode == 2) && dims%2 == 0 && dims <= ne[0]
}

// Rotate is ROPE of x [n, heads, N] by a RopeTable: pairs of neighbours, or of halves. Back is the transposed rotation,
// with the same magnitude: the gradient of x.
func (c *Context) Rotate(x, table Tensor, back, halves bool) Tensor {
	if ne, tn := x.NE(), table.NE(); x.Type() != F32 || x.NB()[0] != 4 || ne[3] != 1 || tn[0] > ne[0] || tn[2] != ne[2] {
		misuse("Rotate", "x", x)
	}
	return Tensor{C.ft_new_rotate(c.p, x.p, table.p, C.bool(back), C.bool(halves))}
}

// SoftMaxBack is dx for y = softmax(scale·x + mask) by rows: scale·y ⊙ (dy − Σ dy ⊙ y).
func (c *Context) SoftMaxBack(y, dy Tensor, scale float32) Tensor {
	mustBeRows("SoftMaxBack", y, dy)
	return Tensor{C.ft_new_soft_max_back(c.p, y.p, dy.p, C.float(scale))}
}

// SwigluBack is dg and du for y = silu(g) ⊙ u, two views of one node: du = dy ⊙ silu(g), dg = dy ⊙ u ⊙ σ·(1 + g·(1 − σ))
// with σ = 1/(1 + e^−g).
func (c *Context) SwigluBack(g, u, dy Tensor) (dg, du Tensor) {
	mustBeRows("SwigluBack", g, u)
	mustBeRows("SwigluBack", g, dy)
	both := Tensor{C.ft_new_swiglu_back(c.p, g.p, u.p, dy.p)}
	ne := g.NE()
	nb := [4]int64{4, 4 * ne[0], 4 * ne[0] * ne[1], 4 * ne[0] * ne[1] * ne[2]}
	return c.View(both, ne, nb, 0), c.View(both, ne, nb, 4*g.Elements())
}

// SwigluBackFused is dx for y = silu(g) ⊙ u of the halves of the rows of x [2n, …], g first, or u first when swapped;
// dy is [n, …].
func (c *Context) SwigluBackFused(x, dy Tensor, swapped bool) Tensor {
	ne, half := x.NE(), dy.NE()
	if x.Type() != F32 || !evenRows(x) {
		misuse("SwigluBackFused", "x", x)
	}
	if half[0] *= 2; dy.Type() != F32 || !evenRows(dy) || half != ne {
		misuse("SwigluBackFused", "dy", dy)
	}
	return Tensor{C.ft_new_swiglu_back_fused(c.p, x.p, dy.p, C.bool(swapped))}
}

func mustBeRows(op string, x, dy Tensor) {
	if x.Type() != F32 || !evenRows(x) {
		misuse(op, "x", x)
	}
	if dy.Type() != F32 || !evenRows(dy) || !dy.SameShape(x) {
		misuse(op, "dy", dy)
	}
}

func mustBeNormWeight(op string, x, w Tensor) {
	if ne := w.NE(); w.Type() != F32 || ne != [4]int64{x.NE()[0], 1, 1, 1} {
		misuse(op, "w", w)
	}
}
