package ggml_test

import (
	"slices"
	"testing"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// TestScratchIsWhatTheKernelsTake compares what is said of every kernel before its graph has memory with what its pool
// holds after it ran, for shapes inside and outside of one block.
func TestScratchIsWhatTheKernelsTake(t *testing.T) {
	eachSIMD(t, func(t *testing.T) {
		for _, n := range []int64{3, 40, 1100} {
			k := newBench(t, 2048, 1) // with room for a graph of each node
			w, x, dy := k.leaf("w", ggml.F16, 1600, 24), k.small("x", 1600, n), k.small("dy", 24, n)
			f := k.factors(w, 3, 5)
			heads, others := k.small("heads", 24, n, 3), k.small("others", 24, 40, 3)
			mask := k.small("mask", 40, n, 1)
			q, keys := k.small("q", 24, n, 3), k.small("keys", 24, 40, 3)
			spans := k.ctx.MaskSpans(mask)
			attention := k.ctx.Attention(q, keys, k.ctx.Transpose(others), mask, spans, 1)
			dq, _, _ := k.ctx.AttentionBack(attention, q)
			dual, _, _, _, _ := k.ctx.DualGrads(x, dy, f[0], f[1], f[2], f[3], productScale)
			lora, _, _ := k.ctx.LoRAGrads(x, dy, f[0], f[1], productScale)
			nodes := map[string]ggml.Tensor{
				"W·x":                 k.ctx.MulMat32(w, x),
				"Wᵀ·dy":               k.ctx.MulMatT32(w, dy),
				"(W+ΔW)·x":            k.ctx.DualMulMat(w, x, f[0], f[1], f[2], f[3], productScale),
				"(W+ΔW)ᵀ·dy":          k.ctx.DualMulMatT(w, dy, f[0], f[1], f[2], f[3], productScale),
				"(W+s·B·A)·x":         k.ctx.LoRAMulMat(w, x, f[0], f[1], productScale),
				"(W+s·B·A)ᵀ·dy":       k.ctx.LoRAMulMatT(w, dy, f[0], f[1], productScale),
				"gradients of a dual": dual.Src(0), "their sum": dual, "gradients of a lora": lora, "their inner": lora.Src(0),
				"attention": attention, "its gradients": dq.ViewSrc(),
				"heads": k.ctx.BatchMul(others, heads), "norm": k.ctx.RMSNormBack(x, x, 1e-5),
			}
			before := map[string]int64{}
			for name, node := range nodes {
				before[name] = node.Scratch()
			}
			k.graph(dual, lora, nodes["W·x"], nodes["Wᵀ·dy"], nodes["(W+ΔW)·x"], nodes["(W+ΔW)ᵀ·dy"], nodes["(W+s·B·A)·x"],
				nodes["(W+s·B·A)ᵀ·dy"], nodes["heads"], nodes["norm"], dq)()
			places := slices.Clone(spans.Ints())
			for name, node := range nodes {
				copy(spans.Ints(), places) // attention goes by them, and another node may have got their memory
				g := k.graphOf(node)
				ggml.Trim()
				if err := k.cpu.Compute(g); err != nil {
					t.Fatal(err)
				}
				if got := ggml.ScratchHeld(); got != before[name] {
					t.Errorf("%d tokens, %s: took %d bytes of scratch memory, said %d", n, name, got, before[name])
				}
				if own := k.cpu.Workspace(g); own < before[name] {
					t.Errorf("%d tokens, %s: a workspace of %d bytes, want at least the %d of scratch", n, name, own, before[name])
				}
			}
		}
	})
}

// graphOf is a graph of one node whose operands have been computed.
func (k *bench) graphOf(node ggml.Tensor) ggml.Graph {
	k.tb.Helper()
	ctx, err := ggml.NewContext(2, 2)
	if err != nil {
		k.tb.Fatal(err)
	}
	k.tb.Cleanup(func() { ctx.Close() })
	whole := k.ctx.NewGraph(64)
	whole.Expand(node)
	return ctx.Part(whole, whole.Len()-1, whole.Len())
}
