package kernels_test

import (
	"fmt"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// BenchmarkThinMagnitude times the gradients of A and B of a magnitude of one rank, in F32 and in 8 bits, and those of C and D.
func BenchmarkThinMagnitude(b *testing.B) {
	for _, shape := range [][2]int64{{576, 576}, {576, 1536}, {1536, 576}, {2048, 5632}} {
		for _, op := range []struct {
			name  string
			build func(k *bench, x, dy ggml.Tensor, f [4]ggml.Tensor) ggml.Tensor
		}{
			{"f32", func(k *bench, x, dy ggml.Tensor, f [4]ggml.Tensor) ggml.Tensor {
				all, _, _ := kernels.ThinMagnitude(k.ctx, x, dy, f[0], f[1], f[2], f[3], 2, true)
				return all
			}},
			{"bytes", func(k *bench, x, dy ggml.Tensor, f [4]ggml.Tensor) ggml.Tensor {
				all, _, _ := kernels.ThinMagnitude(k.ctx, x, dy, f[0], f[1], f[2], f[3], 2, false)
				return all
			}},
			{"directions", func(k *bench, x, dy ggml.Tensor, f [4]ggml.Tensor) ggml.Tensor {
				all, _, _ := kernels.ThinDirections(k.ctx, x, dy, f[0], f[1], f[2], f[3], 2)
				return all
			}},
		} {
			b.Run(fmt.Sprintf("%s/%dx%d", op.name, shape[0], shape[1]), func(b *testing.B) {
				k := newBench(b, 64, 1)
				x, dy := k.leaf("x", ggml.F32, shape[0], benchTokens), k.leaf("dy", ggml.F32, shape[1], benchTokens)
				f := [4]ggml.Tensor{k.small("a", shape[0], 1), k.small("b", 1, shape[1]), k.small("c", shape[0], 7), k.small("d", 7, shape[1])}
				run := k.graph(op.build(k, x, dy, f))
				run()
				for b.Loop() {
					run()
				}
			})
		}
	}
}
