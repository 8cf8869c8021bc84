package kernels

// #include "batch.h"
import "C"

import (
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

var (
	batchMul   = newKernel("BATCH_MUL", unsafe.Pointer(C.ft_batch_mul), batchScratch)
	batchMulT  = newKernel("BATCH_MUL_T", unsafe.Pointer(C.ft_batch_mul_t), batchScratch)
	batchOuter = newKernel("BATCH_OUTER", unsafe.Pointer(C.ft_batch_outer), batchScratch)
)

func batchScratch(C.tensor) uint64 { return uint64(C.ft_batch_scratch()) }

// The three products of attention, in full float32 precision. Operands are F32 and read where they lie: dimension 0 or
// dimension 1 is contiguous, the other strides are free, so permuted and transposed views need no copy. Results are
// contiguous. The two higher dimensions of a are broadcast: P is a multiple of p, Q of q, and head h of b meets head
// h/(P/p) of a.

// BatchMul does for F32 what ggml.Context.MulMat does: a [k, n, p, q], b [k, m, P, Q] → y [n, m, P, Q], Σ_k a[k, n]·b[k, m].
func BatchMul(c *ggml.Context, a, b ggml.Tensor) ggml.Tensor {
	an, bn := a.NE(), b.NE()
	mustBeHeads("BatchMul", "a", a)
	if !isHeads(b) || bn[0] != an[0] || !isMultiple(bn, an) {
		misuse("BatchMul", "b", b)
	}
	return batchMul.node(c, [4]int64{an[1], bn[1], bn[2], bn[3]}, nil, a, b)
}

// BatchMulT computes the gradient of b in y = BatchMul(a, b): a [k, n, p, q], dy [n, m, P, Q] → [k, m, P, Q],
// Σ_n a[k, n]·dy[n, m].
func BatchMulT(c *ggml.Context, a, dy ggml.Tensor) ggml.Tensor {
	an, yn := a.NE(), dy.NE()
	mustBeHeads("BatchMulT", "a", a)
	if !isHeads(dy) || yn[0] != an[1] || !isMultiple(yn, an) {
		misuse("BatchMulT", "dy", dy)
	}
	return batchMulT.node(c, [4]int64{an[0], yn[1], yn[2], yn[3]}, nil, a, dy)
}

// BatchOuter computes the gradient of a [k, n, p, q] in y = BatchMul(a, b): b [k, m, P, Q], dy [n, m, P, Q] → [k, n, p, q],
// Σ b[k, m]·dy[n, m] over m and over the heads that met one head of a. With b and dy exchanged it is the transpose,
// [n, k, p, q]: the gradient of what a transposed view shows.
func BatchOuter(c *ggml.Context, b, dy ggml.Tensor, p, q int64) ggml.Tensor {
	bn, yn := b.NE(), dy.NE()
	if !isHeads(b) || p < 1 || q < 1 || bn[2]%p != 0 || bn[3]%q != 0 {
		misuse("BatchOuter", "b", b)
	}
	if !isHeads(dy) || [3]int64(yn[1:]) != [3]int64(bn[1:]) {
		misuse("BatchOuter", "dy", dy)
	}
	return batchOuter.node(c, [4]int64{bn[0], yn[0], p, q}, nil, b, dy)
}

func mustBeHeads(op, operand string, t ggml.Tensor) {
	if !isHeads(t) {
		misuse(op, operand, t)
	}
}

// isHeads reports whether t is F32 with whole elements between its neighbours and one contiguous dimension of the first two.
func isHeads(t ggml.Tensor) bool {
	ne, nb := t.NE(), t.NB()
	return t.Type() == ggml.F32 && (nb[0] == 4 || nb[1] == 4 || ne[0] == 1 || ne[1] == 1) && (nb[0]|nb[1]|nb[2]|nb[3])%4 == 0
}

// isMultiple reports whether the higher dimensions of b are multiples of those of a.
func isMultiple(b, a [4]int64) bool { return b[2]%a[2] == 0 && b[3]%a[3] == 0 }
