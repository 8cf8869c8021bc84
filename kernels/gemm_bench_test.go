package kernels_test

import (
	"fmt"
	"testing"
	"time"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Types as in a file, and n_in × n_out of the matrices of a model of 135M, 0.5B and 1.1B parameters.
var (
	benchTypes  = []string{"f32", "f16", "bf16", "q8_0", "q4_0", "q4_K", "q6_K"}
	benchShapes = [][2]int64{
		{576, 576}, {576, 192}, {576, 1536}, {1536, 576}, {576, 32000},
		{896, 896}, {896, 128}, {896, 4864}, {4864, 896},
		{2048, 2048}, {2048, 256}, {2048, 5632}, {5632, 2048},
	}
)

const benchTokens = 512

// BenchmarkGemm reports, for each product, its multiply-adds a second as a share (peak%) of what a loop of multiply-adds
// reaches on as many threads in the same run.
func BenchmarkGemm(b *testing.B) {
	for _, threads := range []int{1, 2} {
		for _, name := range benchTypes {
			for _, shape := range benchShapes {
				typ := typeNamed(name)
				if shape[0]%typ.BlockSize() != 0 {
					continue
				}
				for _, op := range benchOps {
					b.Run(fmt.Sprintf("%s/%s/%dx%d/threads=%d", op.name, name, shape[0], shape[1], threads), func(b *testing.B) {
						benchProduct(b, op, typ, shape[0], shape[1], threads)
					})
				}
			}
		}
	}
}

func benchProduct(b *testing.B, op benchOp, typ ggml.Type, nIn, nOut int64, threads int) {
	k := newBench(b, 64, threads)
	w := k.leaf("w", typ, nIn, nOut)
	x, dy := k.leaf("x", ggml.F32, nIn, benchTokens), k.leaf("dy", ggml.F32, nOut, benchTokens)
	run := k.graph(op.build(k, w, x, dy))
	run()
	before := kernels.PeakFLOPS(threads, 50*time.Millisecond)
	b.ResetTimer()
	for b.Loop() {
		run()
	}
	rate := 2 * float64(nIn*nOut*benchTokens) * float64(b.N) / b.Elapsed().Seconds()
	peak := max(before, kernels.PeakFLOPS(threads, 50*time.Millisecond))
	b.ReportMetric(100*rate/peak, "peak%")
	b.ReportMetric(rate/1e9, "GFLOP/s")
}

type benchOp struct {
	name  string
	build func(k *bench, w, x, dy ggml.Tensor) ggml.Tensor
}

// benchRank is that of each group of a Dual LoRA.
const benchRank = 4

var benchOps = []benchOp{
	{"WeightMul", func(k *bench, w, x, _ ggml.Tensor) ggml.Tensor { return kernels.WeightMul(k.ctx, w, x) }},
	{"WeightMulT", func(k *bench, w, _, dy ggml.Tensor) ggml.Tensor { return kernels.WeightMulT(k.ctx, w, dy) }},
	{"DualMul", func(k *bench, w, x, _ ggml.Tensor) ggml.Tensor {
		f := k.factors(w, benchRank, benchRank)
		return kernels.DualMul(k.ctx, w, x, f[0], f[1], f[2], f[3], 2)
	}},
	{"DualMulT", func(k *bench, w, _, dy ggml.Tensor) ggml.Tensor {
		f := k.factors(w, benchRank, benchRank)
		return kernels.DualMulT(k.ctx, w, dy, f[0], f[1], f[2], f[3], 2)
	}},
	{"DualGrads", func(k *bench, w, x, dy ggml.Tensor) ggml.Tensor {
		f := k.factors(w, benchRank, benchRank)
		all, _, _, _, _ := kernels.DualGrads(k.ctx, x, dy, f[0], f[1], f[2], f[3], 2, 0)
		return all
	}},
	{"ggml", func(k *bench, w, x, _ ggml.Tensor) ggml.Tensor { return k.ctx.MulMat(w, x) }}, // for comparison: activations rounded to the type's own
}
