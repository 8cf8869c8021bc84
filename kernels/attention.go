package kernels

// #include "attention.h"
import "C"

import (
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

var (
	maskSpans = newKernel("MASK_SPANS", unsafe.Pointer(C.ft_mask_spans), nil)
	attention = newKernel("ATTENTION", unsafe.Pointer(C.ft_attention),
		func(node C.tensor) uint64 { return uint64(C.ft_attention_scratch(node, false)) })
	attentionBack = newKernel("ATTENTION_BACK", unsafe.Pointer(C.ft_attention_back),
		func(node C.tensor) uint64 { return uint64(C.ft_attention_scratch(node, true)) })
	attentionSum = newKernel("ATTENTION_SUM", unsafe.Pointer(C.ft_attention_sum), nil)
)

// MaskSpans says of every row of an attention mask [m, n, 1, S] where what it lets through begins and ends, and whether it
// is 0 in between, so that Attention passes over the rest: I32 [4, n, 1, S]. One node serves all layers.
func MaskSpans(c *ggml.Context, mask ggml.Tensor) ggml.Tensor {
	if mask.Type() != ggml.F32 || !mask.IsContiguous() || mask.NE()[2] != 1 {
		misuse("MaskSpans", "mask", mask)
	}
	return c.Custom(maskSpans.compute, ggml.I32, [4]int64{C.FT_SPAN, mask.NE()[1], 1, mask.NE()[3]}, mask)
}

// Attention computes softmax(scale·kᵀ·q + mask)·v head by head, in blocks that never leave the cache: the scores exist
// nowhere as a whole, and those that the mask hides are not computed. q is [w, n, H, S], k [w, m, h, S], v [m, u, h, S], H a
// multiple of h, with the width of a head contiguous in each; mask is [m, n, 1, S], spans its MaskSpans.
//
// The node holds what AttentionBack wants to find; AttentionResult is the part that counts.
func Attention(c *ggml.Context, q, k, v, mask, spans ggml.Tensor, scale float32) ggml.Tensor {
	if !CanAttend(q, k, v, mask) {
		misuse("Attention", "q", q)
	}
	queries := q.Elements() / q.NE()[0]
	return attention.node(c, [4]int64{queries * (v.NE()[1] + 1), 1, 1, 1}, params{scale}, q, k, v, mask, spans)
}

// CanAttend reports whether the operands lie as Attention wants them.
func CanAttend(q, k, v, mask ggml.Tensor) bool {
	qn, kn, vn, mn := q.NE(), k.NE(), v.NE(), mask.NE()
	return isHeads(q) && isHeads(k) && isHeads(v) && q.NB()[0] == 4 && k.NB()[0] == 4 && v.NB()[1] == 4 &&
		mask.Type() == ggml.F32 && mask.IsContiguous() && mn == [4]int64{kn[1], qn[1], 1, qn[3]} &&
		kn[0] == qn[0] && vn[0] == kn[1] && vn[2] == kn[2] && kn[3] == qn[3] && vn[3] == qn[3] && qn[2]%kn[2] == 0
}

// AttentionResult returns y [u, H, n, S] of an Attention node.
func AttentionResult(c *ggml.Context, node ggml.Tensor) ggml.Tensor {
	q, v := node.Src(0).NE(), node.Src(2).NE()
	return part(c, node, 0, v[1], q[2], q[1], q[3])
}

// AttentionBack computes the gradients of q, k and v, in their shapes, for an Attention node and dy [u, n, H, S],
// contiguous in u.
func AttentionBack(c *ggml.Context, node, dy ggml.Tensor) (dq, dk, dv ggml.Tensor) {
	ofQ, ofK, ofV := node.Src(0), node.Src(1), node.Src(2)
	q, k, v := ofQ.NE(), ofK.NE(), ofV.NE()
	if dy.Type() != ggml.F32 || dy.NB()[0] != 4 || dy.NE() != [4]int64{v[1], q[1], q[2], q[3]} {
		misuse("AttentionBack", "dy", dy)
	}
	pieces := k[2] * k[3] * int64(C.ft_attention_parts(native(ofQ), native(ofK)))
	floats := ofQ.Elements() + pieces*int64(C.ft_attention_part(native(ofK), native(ofV)))
	back := attentionBack.node(c, [4]int64{floats, 1, 1, 1}, params{param(node, 0)}, ofQ, ofK, ofV, node.Src(3), node.Src(4), node, dy)
	sums := attentionSum.node(c, [4]int64{ofK.Elements() + ofV.Elements(), 1, 1, 1}, nil, back, ofQ, ofK, ofV)
	dq = part(c, back, 0, q[0], q[2], q[1], q[3])
	dk = part(c, sums, 0, k[0], k[2], k[1], k[3])
	dv = part(c, sums, 4*dk.Elements(), v[1], v[2], v[0], v[3])
	heads := [4]int{0, 2, 1, 3} // tokens over heads
	return c.Permute(dq, heads), c.Permute(dk, heads), c.Permute(dv, [4]int{1, 2, 0, 3})
}
