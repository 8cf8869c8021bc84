package kernels_test

import (
	"fmt"
	"math"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// The layers of a Qwen3.5 of 0.8B, 512 tokens: 16 heads of 128, 6144 channels of a convolution over 4.
func BenchmarkRecurrent(b *testing.B) {
	const n, heads, tokens = 128, 16, 512
	for _, name := range []string{"conv", "conv back", "delta", "delta back"} {
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/threads=%d", name, threads), func(b *testing.B) {
				k := newBench(b, 64, threads)
				key := func() float64 { return k.rng.NormFloat64() / math.Sqrt(n) }
				x := k.leaf("x", ggml.F32, 3*n*heads, tokens, 1)
				w := k.leaf("w", ggml.F32, 4, 3*n*heads)
				q, key2 := k.leafOf("q", ggml.F32, key, n, heads, tokens, 1), k.leafOf("k", ggml.F32, key, n, heads, tokens, 1)
				v, dy := k.leaf("v", ggml.F32, n, heads, tokens, 1), k.leaf("dy", ggml.F32, n, heads, tokens, 1)
				g := k.leafOf("g", ggml.F32, func() float64 { return -k.rng.Float64() / 4 }, 1, heads, tokens, 1)
				beta := k.leafOf("beta", ggml.F32, k.rng.Float64, 1, heads, tokens, 1)
				pos := k.positions(tokens, 1, 0)
				var out ggml.Tensor
				switch name {
				case "conv":
					out = kernels.ShortConv(k.ctx, x, w, pos)
				case "conv back":
					out = kernels.ShortConvBack(k.ctx, x, w, pos)
				case "delta":
					out = kernels.DeltaNet(k.ctx, q, key2, v, g, beta, pos)
				case "delta back":
					out = kernels.DeltaNetBack(k.ctx, q, key2, v, g, beta, pos, dy).Q
				}
				run := k.graph(out)
				run()
				b.ResetTimer()
				for b.Loop() {
					run()
				}
			})
		}
	}
}
