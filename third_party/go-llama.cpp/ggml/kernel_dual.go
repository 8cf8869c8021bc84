package ggml

/*
#include "gemm.h"

static tensor ft_new_dual_grads(ggml_object ctx, tensor x, tensor dy, tensor a, tensor b, tensor c, tensor d, float scale) {
	const int64_t n_in = a->ne[0], n_out = b->ne[1], ranks = a->ne[1] + c->ne[1];
	tensor args[6] = { x, dy, a, b, c, d };
	tensor shares = ggml_custom_4d(ctx, 0, ft_dual_parts(n_in, n_out, ranks) * n_in * ranks + n_out * ranks, 1, 1, 1,
		args, 6, ft_dual_grads, -1, NULL);
	ft_set_param(shares, 0, scale);
	tensor sums[5] = { shares, a, b, c, d };
	return ggml_custom_4d(ctx, 0, (n_in + n_out) * ranks, 1, 1, 1, sums, 5, ft_dual_sum, -1, NULL);
}
*/
import "C"

// DualGrads are the gradients of the factors of ΔW = s·ReLU(B·A) ⊙ sign(D·C), for x [n_in, N, …], dy [n_out, N, …] and the
// factors' shapes of DualMulMat: with M = B·A, N = D·C and G = dy·xᵀ, which exists tile by tile only,
//
//	dM = s·G ⊙ sign(N) ⊙ [M ≥ 0]   dA = Bᵀ·dM   dB = dM·Aᵀ
//	dN = s·G ⊙ ReLU(M)             dC = Dᵀ·dN   dD = dN·Cᵀ
//
// all is one vector, [dA | dB | dC | dD], and the four are views of it in the factors' shapes. It runs on the CPU; the
// result does not depend on the number of threads.
func (c *Context) DualGrads(x, dy, a, b, cc, d Tensor, scale float32) (all, da, db, dc, dd Tensor) {
	const op = "DualGrads"
	nIn, nOut := x.NE()[0], dy.NE()[0]
	if x.Type() != F32 || !evenRows(x) {
		misuse(op, "x", x)
	}
	if xn, yn := x.NE(), dy.NE(); dy.Type() != F32 || !evenRows(dy) || [3]int64(xn[1:]) != [3]int64(yn[1:]) {
		misuse(op, "dy", dy)
	}
	mustBeFactors(op, nIn, nOut, a, b, cc, d)
	all = Tensor{C.ft_new_dual_grads(c.p, x.p, dy.p, a.p, b.p, cc.p, d.p, C.float(scale))}
	var offset int64
	part := func(like Tensor) Tensor {
		v := c.View(all, like.NE(), like.NB(), offset)
		offset += like.Bytes()
		return v
	}
	return all, part(a), part(b), part(cc), part(d)
}
