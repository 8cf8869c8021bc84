package kernels

// #include "dual.h"
import "C"

import (
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

var (
	dualMul = newKernel("DUAL_MUL", unsafe.Pointer(C.ft_dual_mul),
		func(node C.tensor) uint64 { return uint64(C.ft_dual_mul_scratch(node, false)) })
	dualMulT = newKernel("DUAL_MUL_T", unsafe.Pointer(C.ft_dual_mul_t),
		func(node C.tensor) uint64 { return uint64(C.ft_dual_mul_scratch(node, true)) })
	dualGrads = newKernel("DUAL_GRADS", unsafe.Pointer(C.ft_dual_grads),
		func(node C.tensor) uint64 { return uint64(C.ft_dual_grads_scratch(node)) })
	dualSum = newKernel("DUAL_SUM", unsafe.Pointer(C.ft_dual_sum), nil)
)

// DualMul multiplies w + s·ReLU(B·A) ⊙ sign(D·C) with x as WeightMul does, for a [n_in, r1], b [r1, n_out], cc [n_in, r2] and
// d [r2, n_out], all F32: the sum is formed tile by tile inside the product. Where B·A is 0 it is w to the bit.
func DualMul(c *ggml.Context, w, x, a, b, cc, d ggml.Tensor, scale float32) ggml.Tensor {
	mustMultiply("DualMul", w, x, 0)
	mustBeDual("DualMul", w.NE()[0], w.NE()[1], a, b, cc, d)
	return dualMul.node(c, productShape(w, x, 1), params{scale}, w, x, a, b, cc, d)
}

// DualMulT multiplies the same sum with dy as WeightMulT does.
func DualMulT(c *ggml.Context, w, dy, a, b, cc, d ggml.Tensor, scale float32) ggml.Tensor {
	mustMultiply("DualMulT", w, dy, 1)
	mustBeDual("DualMulT", w.NE()[0], w.NE()[1], a, b, cc, d)
	return dualMulT.node(c, productShape(w, dy, 0), params{scale}, w, dy, a, b, cc, d)
}

// DualGrads computes the gradients of the factors of ΔW = s·ReLU(B·A) ⊙ sign(D·C), for x [n_in, N, …], dy [n_out, N, …] and the
// factors' shapes of DualMul: with M = B·A, N = D·C and G = dy·xᵀ, which exists tile by tile only,
//
//	dM = s·G ⊙ sign(N) ⊙ [M ≥ 0]   dA = Bᵀ·dM   dB = dM·Aᵀ
//	dN = s·G ⊙ ReLU(M)             dC = Dᵀ·dN   dD = dN·Cᵀ
//
// A limit above 0 clips the estimator that goes straight through the sign: dN is 0 where |N| is above it.
//
// all is one vector, [dA | dB | dC | dD], and the four are views of it in the factors' shapes.
func DualGrads(c *ggml.Context, x, dy, a, b, cc, d ggml.Tensor, scale, limit float32) (all, da, db, dc, dd ggml.Tensor) {
	nIn, nOut, ranks := x.NE()[0], dy.NE()[0], a.NE()[1]+cc.NE()[1]
	mustPair("DualGrads", x, dy)
	mustBeDual("DualGrads", nIn, nOut, a, b, cc, d)
	parts := int64(C.ft_dual_parts(C.int64_t(nIn), C.int64_t(nOut), C.int64_t(ranks)))
	shares := dualGrads.node(c, [4]int64{(parts*nIn + nOut) * ranks, 1, 1, 1}, params{scale, limit}, x, dy, a, b, cc, d)
	all = dualSum.node(c, [4]int64{(nIn + nOut) * ranks, 1, 1, 1}, nil, shares, a, b, cc, d)
	var offset int64
	view := func(like ggml.Tensor) ggml.Tensor {
		v := c.View(all, like.NE(), like.NB(), offset)
		offset += like.Bytes()
		return v
	}
	return all, view(a), view(b), view(cc), view(d)
}

func mustBeDual(op string, nIn, nOut int64, a, b, c, d ggml.Tensor) {
	r1, r2 := a.NE()[1], c.NE()[1]
	for i, want := range [4][2]int64{{nIn, r1}, {r1, nOut}, {nIn, r2}, {r2, nOut}} {
		if t := [4]ggml.Tensor{a, b, c, d}[i]; !isMatrix(t, want[0], want[1]) {
			misuse(op, "abcd"[i:i+1], t)
		}
	}
}
