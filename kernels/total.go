package kernels

// #include "batch.h"
// #include "total.h"
import "C"

import (
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

var (
	addOuter   = newKernel("ADD_OUTER", unsafe.Pointer(C.ft_add_outer), batchScratch)
	addRows    = newKernel("ADD_ROWS", unsafe.Pointer(C.ft_add_rows), nil)
	addSums    = newKernel("ADD_SUMS", unsafe.Pointer(C.ft_add_sums), nil)
	addSquares = newKernel("ADD_SQUARES", unsafe.Pointer(C.ft_add_squares), nil)
)

// Gradients of whole weights and statistics are added to a total, F32 and contiguous, in its own memory: that of a step is
// formed part by part, and a copy of a weight's size for each part would be as large as the weights. The nodes are views of
// the total.

// AddOuter adds BatchOuter(b, dy) to total [k, n, p, q].
func AddOuter(c *ggml.Context, total, b, dy ggml.Tensor) ggml.Tensor {
	bn, yn, tn := b.NE(), dy.NE(), total.NE()
	mustBeTotal("AddOuter", total)
	if !isHeads(b) || bn[0] != tn[0] || !isMultiple(bn, tn) {
		misuse("AddOuter", "b", b)
	}
	if !isHeads(dy) || yn[0] != tn[1] || [3]int64(yn[1:]) != [3]int64(bn[1:]) {
		misuse("AddOuter", "dy", dy)
	}
	return addOuter.inPlace(c, nil, total, b, dy)
}

// AddRows adds row i of dy [n, N] to row ids[i] (I32 [N]) of total [n, rows]: the gradient of total in GetRows(total, ids).
func AddRows(c *ggml.Context, total, dy, ids ggml.Tensor) ggml.Tensor {
	mustBeTotal("AddRows", total)
	if !evenRows(dy) || dy.NE()[0] != total.NE()[0] {
		misuse("AddRows", "dy", dy)
	}
	if ids.Type() != ggml.I32 || !ids.IsContiguous() || ids.Elements()*dy.NE()[0] != dy.Elements() {
		misuse("AddRows", "ids", ids)
	}
	return addRows.inPlace(c, nil, total, dy, ids)
}

// AddSums adds Σ a ⊙ b to a total of n elements, the sum over the rows of n that a and b, of one shape, consist of; without
// b (none) it adds Σ a. It is the gradient of a bias, and of a factor that is the same for every token.
func AddSums(c *ggml.Context, total, a, b ggml.Tensor) ggml.Tensor {
	mustBeTotal("AddSums", total)
	if a.Type() != ggml.F32 || !a.IsContiguous() || a.Elements()%total.Elements() != 0 {
		misuse("AddSums", "a", a)
	}
	if !b.IsNil() && (b.Type() != ggml.F32 || !b.IsContiguous() || !b.SameShape(a)) {
		misuse("AddSums", "b", b)
	}
	if b.IsNil() {
		return addSums.inPlace(c, nil, total, a)
	}
	return addSums.inPlace(c, nil, total, a, b)
}

// AddSquares adds Σ weights[t]·x[i, t]² over the N tokens of x [n, N] to total [n], with weights F32 [N]: what a weight's
// inputs are like, channel by channel.
func AddSquares(c *ggml.Context, total, x, weights ggml.Tensor) ggml.Tensor {
	mustBeTotal("AddSquares", total)
	if x.Type() != ggml.F32 || !x.IsContiguous() || total.Elements() != x.NE()[0] {
		misuse("AddSquares", "x", x)
	}
	if weights.Type() != ggml.F32 || !weights.IsContiguous() || weights.Elements()*x.NE()[0] != x.Elements() {
		misuse("AddSquares", "weights", weights)
	}
	return addSquares.inPlace(c, nil, total, x, weights)
}

func mustBeTotal(op string, total ggml.Tensor) {
	if total.Type() != ggml.F32 || !total.IsContiguous() {
		misuse(op, "total", total)
	}
}
