package kernels

// #include "recurrent.h"
import "C"

import (
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

var (
	shortConv       = newKernel("SHORT_CONV", unsafe.Pointer(C.ft_short_conv), convScratch)
	shortConvBack   = newKernel("SHORT_CONV_BACK", unsafe.Pointer(C.ft_short_conv_back), convScratch)
	shortConvWeight = newKernel("SHORT_CONV_WEIGHT", unsafe.Pointer(C.ft_short_conv_weight), nil)
	deltaNet        = newKernel("DELTA_NET", unsafe.Pointer(C.ft_delta_net),
		func(node C.tensor) uint64 { return uint64(C.ft_delta_net_scratch(node)) })
	deltaNetBack = newKernel("DELTA_NET_BACK", unsafe.Pointer(C.ft_delta_net_back),
		func(node C.tensor) uint64 { return uint64(C.ft_delta_net_back_scratch(node)) })
)

func convScratch(node C.tensor) uint64 { return uint64(C.ft_short_conv_scratch(node)) }

// The layers below carry a state from token to token. It is empty at the beginning of each sequence and of each document:
// pos, I32 [T·S], holds the place of every token in its document, at most its place in its sequence.

// ShortConv computes the causal convolution of ggml's SSM_CONV over x [channels, T, S] with w [taps, channels], channel by
// channel: y[t] = Σ_m w[taps−1−m]·x[t−m] over the m < taps that are in the document. x is not padded.
func ShortConv(c *ggml.Context, x, w, pos ggml.Tensor) ggml.Tensor {
	mustBeConv("ShortConv", x, w, pos)
	return shortConv.node(c, x.NE(), nil, x, w, pos)
}

// ShortConvBack computes dx for dy [channels, T, S].
func ShortConvBack(c *ggml.Context, dy, w, pos ggml.Tensor) ggml.Tensor {
	mustBeConv("ShortConvBack", dy, w, pos)
	return shortConvBack.node(c, dy.NE(), nil, dy, w, pos)
}

// ShortConvWeight computes dw [taps, channels] for dy and x [channels, T, S].
func ShortConvWeight(c *ggml.Context, dy, x, w, pos ggml.Tensor) ggml.Tensor {
	mustBeConv("ShortConvWeight", dy, w, pos)
	mustBeConv("ShortConvWeight", x, w, pos)
	return shortConvWeight.node(c, w.NE(), nil, dy, x, pos)
}

func mustBeConv(op string, x, w, pos ggml.Tensor) {
	if ne := x.NE(); !isHeads(x) || x.NB()[0] != 4 || ne[3] != 1 {
		misuse(op, "x", x)
	}
	if wn := w.NE(); w.Type() != ggml.F32 || w.NB()[0] != 4 || wn != [4]int64{wn[0], x.NE()[0], 1, 1} {
		misuse(op, "w", w)
	}
	mustBePositions(op, pos, x.NE()[1]*x.NE()[2])
}

func mustBePositions(op string, pos ggml.Tensor, tokens int64) {
	if pos.Type() != ggml.I32 || !pos.IsContiguous() || pos.Elements() != tokens {
		misuse(op, "pos", pos)
	}
}

// DeltaNet computes ggml's GATED_DELTA_NET (arXiv 2412.06464), y [n, H, T, S], with states that are empty at first and are
// not returned. With M the state of a head, [n of k, n of v]:
//
//	M' = M·e^g   d = β·(v − M'·k)   M = M' + d·kᵀ   y = M·q/√n
//
// q and k are [n, h, T, S], v [n, H, T, S], H a multiple of h: head i of v goes with head i mod h. The gate g is [1, H, T, S],
// or [n, H, T, S] with a number for each channel of k; beta is [1, H, T, S]. Rows lie in contiguous memory.
func DeltaNet(c *ggml.Context, q, k, v, g, beta, pos ggml.Tensor) ggml.Tensor {
	vn := v.NE()
	one, heads := [4]int64{1, vn[1], vn[2], vn[3]}, q.NE()[1]
	for _, t := range []ggml.Tensor{q, k, v, g, beta} {
		if t.Type() != ggml.F32 || t.NB()[0] != 4 {
			misuse("DeltaNet", "q, k, v, g or beta", t)
		}
	}
	if q.NE() != [4]int64{vn[0], heads, vn[2], vn[3]} || k.NE() != q.NE() || vn[1]%heads != 0 {
		misuse("DeltaNet", "q or k", q)
	}
	if g.NE() != one && g.NE() != vn {
		misuse("DeltaNet", "g", g)
	}
	if beta.NE() != one {
		misuse("DeltaNet", "beta", beta)
	}
	mustBePositions("DeltaNet", pos, vn[2]*vn[3])
	return deltaNet.node(c, vn, nil, q, k, v, g, beta, pos)
}

// DeltaNetGrads are the derivatives of DeltaNet's operands, in their shapes.
type DeltaNetGrads struct{ Q, K, V, G, Beta ggml.Tensor }

// DeltaNetBack computes the gradients of DeltaNet's operands for dy [n, H, T, S]. It takes memory for about 2√T states of
// a few rows of one head a thread, whatever the length.
func DeltaNetBack(c *ggml.Context, q, k, v, g, beta, pos, dy ggml.Tensor) (d DeltaNetGrads) {
	if dy.Type() != ggml.F32 || dy.NB()[0] != 4 || dy.NE() != v.NE() {
		misuse("DeltaNetBack", "dy", dy)
	}
	var floats int64
	operands := []ggml.Tensor{q, k, v, g, beta}
	for _, t := range operands {
		floats += t.Elements()
	}
	back := deltaNetBack.node(c, [4]int64{floats, 1, 1, 1}, nil, q, k, v, g, beta, pos, dy)
	var at int64
	for i, to := range []*ggml.Tensor{&d.Q, &d.K, &d.V, &d.G, &d.Beta} {
		ne := operands[i].NE()
		*to = part(c, back, 4*at, ne[0], ne[1], ne[2], ne[3])
		at += operands[i].Elements()
	}
	return d
}
