package ggml

/*
#include "kernel_batch.h"
#include "kernel_total.h"

static tensor ft_new_add_outer(ggml_object ctx, tensor total, tensor b, tensor dy) {
	tensor args[2] = { b, dy };
	return ggml_custom_inplace(ctx, total, args, 2, ft_batch_outer_add, -1, NULL);
}
static tensor ft_new_add_rows(ggml_object ctx, tensor total, tensor dy, tensor ids) {
	tensor args[2] = { dy, ids };
	return ggml_custom_inplace(ctx, total, args, 2, ft_add_rows, -1, NULL);
}
static tensor ft_new_add_sums(ggml_object ctx, tensor total, tensor a, tensor b) {
	tensor args[2] = { a, b };
	return ggml_custom_inplace(ctx, total, args, b ? 2 : 1, ft_add_sums, -1, NULL);
}
static tensor ft_new_add_squares(ggml_object ctx, tensor total, tensor x, tensor weights) {
	tensor args[2] = { x, weights };
	return ggml_custom_inplace(ctx, total, args, 2, ft_add_squares, -1, NULL);
}
*/
import "C"

// Gradients of whole weights and statistics are added to a total, F32 and contiguous, in its own memory: that of a step is formed
// part by part, and a copy of a weight's size for each part would be as large as the weights. The nodes are views of the
// total. They run on the CPU, on all threads; no result depends on their number.

// AddOuter adds BatchOuter(b, dy) to total [k, n, p, q].
func (c *Context) AddOuter(total, b, dy Tensor) Tensor {
	bn, yn, tn := b.NE(), dy.NE(), total.NE()
	mustBeTotal("AddOuter", total)
	if !isHeads(b) || bn[0] != tn[0] || !isMultiple(bn, tn) {
		misuse("AddOuter", "b", b)
	}
	if !isHeads(dy) || yn[0] != tn[1] || [3]int64(yn[1:]) != [3]int64(bn[1:]) {
		misuse("AddOuter", "dy", dy)
	}
	return Tensor{C.ft_new_add_outer(c.p, total.p, b.p, dy.p)}
}

// AddRows adds row i of dy [n, N] to row ids[i] (I32 [N]) of total [n, rows]: the gradient of total in GetRows(total, ids).
func (c *Context) AddRows(total, dy, ids Tensor) Tensor {
	mustBeTotal("AddRows", total)
	if dy.Type() != F32 || !evenRows(dy) || dy.NE()[0] != total.NE()[0] {
		misuse("AddRows", "dy", dy)
	}
	if ids.Type() != I32 || !ids.IsContiguous() || ids.Elements()*dy.NE()[0] != dy.Elements() {
		misuse("AddRows", "ids", ids)
	}
	return Tensor{C.ft_new_add_rows(c.p, total.p, dy.p, ids.p)}
}

// AddSums adds Σ a ⊙ b to a total of n elements, the sum over the rows of n that a and b, of one shape, consist of; without
// b (none) it adds Σ a. It is the gradient of a bias, and of a factor that is the same for every token.
func (c *Context) AddSums(total, a, b Tensor) Tensor {
	mustBeTotal("AddSums", total)
	if a.Type() != F32 || !a.IsContiguous() || a.Elements()%total.Elements() != 0 {
		misuse("AddSums", "a", a)
	}
	if !b.IsNil() && (b.Type() != F32 || !b.IsContiguous() || !b.SameShape(a)) {
		misuse("AddSums", "b", b)
	}
	return Tensor{C.ft_new_add_sums(c.p, total.p, a.p, b.p)}
}

// AddSquares adds Σ weights[t]·x[i, t]² over the N tokens of x [n, N] to total [n], with weights F32 [N]: what a weight's
// inputs are like, channel by channel.
func (c *Context) AddSquares(total, x, weights Tensor) Tensor {
	mustBeTotal("AddSquares", total)
	if x.Type() != F32 || !x.IsContiguous() || total.Elements() != x.NE()[0] {
		misuse("AddSquares", "x", x)
	}
	if weights.Type() != F32 || !weights.IsContiguous() || weights.Elements()*x.NE()[0] != x.Elements() {
		misuse("AddSquares", "weights", weights)
	}
	return Tensor{C.ft_new_add_squares(c.p, total.p, x.p, weights.p)}
}

func mustBeTotal(op string, total Tensor) {
	if total.Type() != F32 || !total.IsContiguous() {
		misuse(op, "total", total)
	}
}
