package ggml

/*
#include "kernel_attention.h"

static int64_t ft_elements(tensor t) { return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]; }

static tensor ft_new_mask_spans(ggml_object ctx, tensor mask) {
	return ggml_custom_4d(ctx, 26, FT_SPAN, mask->ne[1], 1, mask->ne[3], &mask, 1, ft_mask_spans, -1, NULL); // GGML_TYPE_I32
}
static tensor ft_new_attention(ggml_object ctx, tensor q, tensor k, tensor v, tensor mask, tensor spans, float scale) {
	tensor args[5] = { q, k, v, mask, spans };
	const int64_t rows = q->ne[1] * q->ne[2] * q->ne[3];
	return ft_set_param(ggml_custom_4d(ctx, 0, rows * (v->ne[1] + 1), 1, 1, 1, args, 5, ft_attention, -1, NULL), 0, scale);
}
static tensor ft_new_attention_back(ggml_object ctx, tensor y, tensor dy) {
	tensor args[7] = { y->src[0], y->src[1], y->src[2], y->src[3], y->src[4], y, dy };
	const tensor q = y->src[0], k = y->src[1], v = y->src[2];
	const int64_t pieces = k->ne[2] * k->ne[3] * ft_attention_parts(q, k);
	return ft_set_param(ggml_custom_4d(ctx, 0, ft_elements(q) + pieces * ft_attention_part(k, v), 1, 1, 1, args, 7,
		ft_attention_back, -1, NULL), 0, ft_param(y, 0));
}
static tensor ft_new_attention_sum(ggml_object ctx, tensor back) {
	tensor args[4] = { back, back->src[0], back->src[1], back->src[2] };
	return ggml_custom_4d(ctx, 0, ft_elements(args[2]) + ft_elements(args[3]), 1, 1, 1, args, 4, ft_attention_sum, -1, NULL);
}
*/
import "C"

// MaskSpans says of every row of an attention mask [m, n, 1, S] where what it lets through begins and ends, and whether it
// is 0 in between, so that Attention passes over the rest: I32 [4, n, 1, S]. One node serves all layers.
func (c *Context) MaskSpans(mask Tensor) Tensor {
	if mask.Type() != F32 || !mask.IsContiguous() || mask.NE()[2] != 1 {
		misuse("MaskSpans", "mask", mask)
	}
	return Tensor{C.ft_new_mask_spans(c.p, mask.p)}
}

// Attention is softmax(scale·kᵀ·q + mask)·v head by head on the CPU, in blocks that never leave the cache: the scores
// exist nowhere as a whole, and those that the mask hides are not computed. q is [w, n, H, S], k [w, m, h, S],
// v [m, u, h, S], H a multiple of h, with the width of a head contiguous in each; mask is [m, n, 1, S], spans its MaskSpans.
// No result depends on the number of threads.
//
// The node holds what AttentionBack wants to find; AttentionResult is the part that counts.
func (c *Context) Attention(q, k, v, mask, spans Tensor, scale float32) Tensor {
	if !CanAttend(q, k, v, mask) {
		misuse("Attention", "q", q)
	}
	return Tensor{C.ft_new_attention(c.p, q.p, k.p, v.p, mask.p, spans.p, C.float(scale))}
}

// CanAttend reports whether the operands lie as Attention wants them.
func CanAttend(q, k, v, mask Tensor) bool {
	qn, kn, vn, mn := q.NE(), k.NE(), v.NE(), mask.NE()
	return isHeads(q) && isHeads(k) && isHeads(v) && q.NB()[0] == 4 && k.NB()[0] == 4 && v.NB()[1] == 4 &&
		mask.Type() == F32 && mask.IsContiguous() && mn == [4]int64{kn[1], qn[1], 1, qn[3]} &&
		kn[0] == qn[0] && vn[0] == kn[1] && vn[2] == kn[2] && kn[3] == qn[3] && vn[3] == qn[3] && qn[2]%kn[2] == 0
}

// AttentionResult is y [u, H, n, S] of an Attention node.
func (c *Context) AttentionResult(node Tensor) Tensor {
	q, v := node.Src(0).NE(), node.Src(2).NE()
	return c.part(node, 0, v[1], q[2], q[1], q[3])
}

// AttentionBack is the gradient of q, k and v, in their shapes, for an Attention node and dy [u, n, H, S], contiguous in u.
func (c *Context) AttentionBack(node, dy Tensor) (dq, dk, dv Tensor) {
	q, k, v := node.Src(0).NE(), node.Src(1).NE(), node.Src(2).NE()
	if dy.Type() != F32 || dy.NB()[0] != 4 || dy.NE() != [4]int64{v[1], q[1], q[2], q[3]} {
		misuse("AttentionBack", "dy", dy)
	}
	back := Tensor{C.ft_new_attention_back(c.p, node.p, dy.p)}
	sums := Tensor{C.ft_new_attention_sum(c.p, back.p)}
	dq = c.part(back, 0, q[0], q[2], q[1], q[3])
	dk = c.part(sums, 0, k[0], k[2], k[1], k[3])
	dv = c.part(sums, 4*dk.Elements(), v[1], v[2], v[0], v[3])
	heads := [4]int{0, 2, 1, 3} // tokens over heads
	return c.Permute(dq, heads), c.Permute(dk, heads), c.Permute(dv, [4]int{1, 2, 0, 3})
}

// part is a contiguous view [n0, n1, n2, n3] at an offset in bytes.
func (c *Context) part(t Tensor, offset, n0, n1, n2, n3 int64) Tensor {
	return c.View(t, [4]int64{n0, n1, n2, n3}, [4]int64{4, 4 * n0, 4 * n0 * n1, 4 * n0 * n1 * n2}, offset)
}
