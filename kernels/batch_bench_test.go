package kernels_test

import (
	"fmt"
	"testing"
	"time"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// attention are the operands of the products of attention with 9 heads over 3: k and v as they come from the weights,
// [hd, heads, T] with tokens outermost in memory, and whatever has the shape of the scores, s [T, T, 9].
type attention struct{ q, k, v, vT, s, dO ggml.Tensor }

const benchHeads, benchHeadsKV = 9, 3

func newAttention(k *bench, hd, tokens int64) attention {
	heads := func(name string, n int64) ggml.Tensor { return k.leaf(name, ggml.F32, hd, n, tokens) }
	perm := func(t ggml.Tensor) ggml.Tensor { return k.ctx.Permute(t, [4]int{0, 2, 1, 3}) }
	v := heads("v", benchHeadsKV)
	return attention{
		q: perm(heads("q", benchHeads)), k: perm(heads("k", benchHeadsKV)), v: perm(v),
		vT: k.ctx.Permute(v, [4]int{1, 2, 0, 3}), s: k.leaf("s", ggml.F32, tokens, tokens, benchHeads),
		dO: k.leaf("dO", ggml.F32, hd, tokens, benchHeads),
	}
}

var batchOps = []struct {
	name  string
	build func(c *ggml.Context, x attention) ggml.Tensor
}{
	{"S=K·Q", func(c *ggml.Context, x attention) ggml.Tensor { return kernels.BatchMul(c, x.k, x.q) }},
	{"O=V·P", func(c *ggml.Context, x attention) ggml.Tensor { return kernels.BatchMul(c, x.vT, x.s) }},
	{"dP=V·dO", func(c *ggml.Context, x attention) ggml.Tensor { return kernels.BatchMulT(c, x.vT, x.dO) }},
	{"dV=P·dO", func(c *ggml.Context, x attention) ggml.Tensor {
		return kernels.BatchOuter(c, x.dO, x.s, benchHeadsKV, 1)
	}},
	{"dQ=K·dS", func(c *ggml.Context, x attention) ggml.Tensor { return kernels.BatchMulT(c, x.k, x.s) }},
	{"dK=Q·dS", func(c *ggml.Context, x attention) ggml.Tensor {
		return kernels.BatchOuter(c, x.q, x.s, benchHeadsKV, 1)
	}},
	{"ggml/S=K·Q", func(c *ggml.Context, x attention) ggml.Tensor { return c.MulMat(x.k, x.q) }},
	{"ggml/O=V·P", func(c *ggml.Context, x attention) ggml.Tensor { return c.MulMat(c.Cont(x.vT), x.s) }},
}

// BenchmarkBatch reports the share of the peak as BenchmarkGemm does; every product has the same number of multiply-adds.
func BenchmarkBatch(b *testing.B) {
	for _, threads := range []int{1, 2} {
		for _, hd := range []int64{64, 128} {
			for _, tokens := range []int64{128, 512, 1024, 2048} {
				for _, op := range batchOps {
					b.Run(fmt.Sprintf("%s/hd=%d/T=%d/threads=%d", op.name, hd, tokens, threads), func(b *testing.B) {
						k := newBench(b, 64, threads)
						benchRate(b, k.graph(op.build(k.ctx, newAttention(k, hd, tokens))), 2*float64(hd*tokens*tokens*benchHeads), threads)
					})
				}
			}
		}
	}
}

// benchRate runs a graph of that many floating-point operations and reports their rate and its share of the peak.
func benchRate(b *testing.B, run func(), flops float64, threads int) {
	run()
	before := kernels.PeakFLOPS(threads, 50*time.Millisecond)
	b.ResetTimer()
	for b.Loop() {
		run()
	}
	rate := flops * float64(b.N) / b.Elapsed().Seconds()
	peak := max(before, kernels.PeakFLOPS(threads, 50*time.Millisecond))
	b.ReportMetric(100*rate/peak, "peak%")
	b.ReportMetric(rate/1e9, "GFLOP/s")
}

// BenchmarkLoRA reports the products as BenchmarkGemm does, by the multiply-adds of W·x alone, and the gradients by theirs.
func BenchmarkLoRA(b *testing.B) {
	const rank = 8
	for _, threads := range []int{1, 2} {
		for _, shape := range benchShapes {
			nIn, nOut := shape[0], shape[1]
			for _, op := range []struct {
				name  string
				flops int64
				build func(c *ggml.Context, w, x, dy, a, b ggml.Tensor) ggml.Tensor
			}{
				{"LoRAMul", 2 * nIn * nOut * benchTokens, func(c *ggml.Context, w, x, _, a, b ggml.Tensor) ggml.Tensor { return kernels.LoRAMul(c, w, x, a, b, 2) }},
				{"LoRAMulT", 2 * nIn * nOut * benchTokens, func(c *ggml.Context, w, _, dy, a, b ggml.Tensor) ggml.Tensor {
					return kernels.LoRAMulT(c, w, dy, a, b, 2)
				}},
				{"LoRAGrads", 4 * rank * (nIn + nOut) * benchTokens, func(c *ggml.Context, _, x, dy, a, b ggml.Tensor) ggml.Tensor {
					all, _, _ := kernels.LoRAGrads(c, x, dy, a, b, 2)
					return all
				}},
			} {
				b.Run(fmt.Sprintf("%s/q8_0/%dx%d/threads=%d", op.name, nIn, nOut, threads), func(b *testing.B) {
					k := newBench(b, 64, threads)
					w := k.leaf("w", typeNamed("q8_0"), nIn, nOut)
					x, dy := k.leaf("x", ggml.F32, nIn, benchTokens), k.leaf("dy", ggml.F32, nOut, benchTokens)
					f := k.factors(w, rank, 1)
					benchRate(b, k.graph(op.build(k.ctx, w, x, dy, f[0], f[1])), float64(op.flops), threads)
				})
			}
		}
	}
}

// BenchmarkWeightGradient reports the gradient of a whole weight, x·dyᵀ summed over the tokens.
func BenchmarkWeightGradient(b *testing.B) {
	for _, threads := range []int{1, 2} {
		for _, shape := range [][2]int64{{64, 172}, {256, 256}, {256, 1500}, {384, 1024}, {1024, 384}, {1024, 1024}, {2048, 5632}} {
			for _, tokens := range []int64{512, 4096} {
				nIn, nOut := shape[0], shape[1]
				b.Run(fmt.Sprintf("%dx%d/N=%d/threads=%d", nIn, nOut, tokens, threads), func(b *testing.B) {
					k := newBench(b, 64, threads)
					x, dy := k.leaf("x", ggml.F32, nIn, tokens), k.leaf("dy", ggml.F32, nOut, tokens)
					benchRate(b, k.graph(kernels.BatchOuter(k.ctx, x, dy, 1, 1)), 2*float64(nIn*nOut*tokens), threads)
				})
			}
		}
	}
}
