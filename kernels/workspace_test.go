package kernels_test

import (
	"slices"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// TestScratchIsWhatTheKernelsTake compares what is said of every kernel before its graph has memory with what its pool
// holds after it ran, for shapes inside and outside of one block.
func TestScratchIsWhatTheKernelsTake(t *testing.T) {
	eachSIMD(t, func(t *testing.T) {
		for _, n := range []int64{3, 40, 1100} {
			k := newBench(t, 2048, 1) // with room for a graph of each node
			w, x, dy := k.leaf("w", ggml.F16, 1600, 24), k.small("x", 1600, n), k.small("dy", 24, n)
			f, thinF := k.factors(w, 3, 5), k.factors(w, 1, 5)
			heads, others := k.small("heads", 24, n, 3), k.small("others", 24, 40, 3)
			mask := k.small("mask", 40, n, 1)
			q, keys := k.small("q", 24, n, 3), k.small("keys", 24, 40, 3)
			spans := kernels.MaskSpans(k.ctx, mask)
			attention := kernels.Attention(k.ctx, q, keys, k.ctx.Transpose(others), mask, spans, 1)
			dq, _, _ := kernels.AttentionBack(k.ctx, attention, q)
			dual, _, _, _, _ := kernels.DualGrads(k.ctx, x, dy, f[0], f[1], f[2], f[3], productScale, 0)
			thin, _, _ := kernels.ThinMagnitude(k.ctx, x, dy, thinF[0], thinF[1], thinF[2], thinF[3], productScale, true)
			thinDirections, _, _ := kernels.ThinDirections(k.ctx, x, dy, thinF[0], thinF[1], thinF[2], thinF[3], productScale)
			lora, _, _ := kernels.LoRAGrads(k.ctx, x, dy, f[0], f[1], productScale)
			nodes := map[string]ggml.Tensor{
				"W·x":                 kernels.WeightMul(k.ctx, w, x),
				"Wᵀ·dy":               kernels.WeightMulT(k.ctx, w, dy),
				"(W+ΔW)·x":            kernels.DualMul(k.ctx, w, x, f[0], f[1], f[2], f[3], productScale),
				"(W+ΔW)ᵀ·dy":          kernels.DualMulT(k.ctx, w, dy, f[0], f[1], f[2], f[3], productScale),
				"(W+s·B·A)·x":         kernels.LoRAMul(k.ctx, w, x, f[0], f[1], productScale),
				"(W+s·B·A)ᵀ·dy":       kernels.LoRAMulT(k.ctx, w, dy, f[0], f[1], productScale),
				"gradients of a dual": dual.Src(0), "their sum": dual,
				"gradients of a thin dual": thin.Src(0), "their thin sum": thin, "directions of a thin dual": thinDirections, "gradients of a lora": lora, "their inner": lora.Src(0),
				"attention": attention, "its gradients": dq.ViewSrc(),
				"heads": kernels.BatchMul(k.ctx, others, heads), "norm": kernels.RMSNormBack(k.ctx, x, x, 1e-5),
			}
			before := map[string]int64{}
			for name, node := range nodes {
				before[name] = kernels.Scratch(node)
			}
			k.graph(dual, thin, thinDirections, lora, nodes["W·x"], nodes["Wᵀ·dy"], nodes["(W+ΔW)·x"], nodes["(W+ΔW)ᵀ·dy"], nodes["(W+s·B·A)·x"],
				nodes["(W+s·B·A)ᵀ·dy"], nodes["heads"], nodes["norm"], dq)()
			places := slices.Clone(spans.Ints())
			for name, node := range nodes {
				copy(spans.Ints(), places) // attention goes by them, and another node may have got their memory
				g := k.graphOf(node)
				kernels.Trim()
				if err := k.cpu.Compute(g); err != nil {
					t.Fatal(err)
				}
				if got := kernels.ScratchHeld(); got != before[name] {
					t.Errorf("%d tokens, %s: took %d bytes of scratch memory, said %d", n, name, got, before[name])
				}
				if own := kernels.Workspace(k.cpu, g); own < before[name] {
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
