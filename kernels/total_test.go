package kernels_test

import (
	"math"
	"slices"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// totalTolerance bounds what float32 makes of a sum, against the sum of the terms' sizes: pieces of 128 terms at most are
// summed in float32, and so is a total.
const totalTolerance = 1e-5

// eachTotal runs build for 1, 2 and 3 threads over what the total holds, and compares the results with each other and
// with want. build returns the node and its total.
func eachTotal(t *testing.T, build func(k *bench) (node, total ggml.Tensor), want func() (want, scale []float64)) {
	t.Helper()
	var first []float32
	for _, threads := range []int{1, 2, 3} {
		k := newBench(t, 64, threads)
		node, total := build(k)
		run := k.graph(node)
		start := slices.Clone(total.Floats())
		run()
		got := slices.Clone(total.Floats())
		if threads == 1 {
			first = got
			w, scale := want()
			for i := range w {
				w[i] += float64(start[i])
				scale[i] += math.Abs(float64(start[i]))
			}
			near(t, "total", got, w, scale, totalTolerance)
		} else if !slices.Equal(got, first) {
			t.Errorf("the total differs between 1 and %d threads", threads)
		}
	}
}

func TestAddOuterAddsTheOuterProduct(t *testing.T) {
	eachSIMD(t, func(t *testing.T) {
		for _, ne := range [][3]int64{{1, 1, 1}, {5, 3, 7}, {33, 47, 340}, {70, 29, 65}, {12, 2600, 15}} {
			nIn, nOut, tokens := ne[0], ne[1], ne[2]
			var x, dy ggml.Tensor
			eachTotal(t, func(k *bench) (node, total ggml.Tensor) {
				total = k.leaf("total", ggml.F32, nIn, nOut)
				x, dy = k.leaf("x", ggml.F32, nIn, tokens, 2), k.leaf("dy", ggml.F32, nOut, tokens, 2)
				return kernels.AddOuter(k.ctx, total, x, dy), total
			}, func() (want, scale []float64) {
				want, scale = make([]float64, nIn*nOut), make([]float64, nIn*nOut)
				xs, dys := values(x), values(dy)
				for r := range 2 * tokens {
					for o := range nOut {
						for i := range nIn {
							term := xs[r*nIn+i] * dys[r*nOut+o]
							want[o*nIn+i] += term
							scale[o*nIn+i] += math.Abs(term)
						}
					}
				}
				return want, scale
			})
		}
	})
}

func TestAddRowsAddsEachRowToItsOwn(t *testing.T) {
	for _, n := range []int64{1, 2, 3, 64, 100} {
		const rows, tokens = 7, 50
		var dy ggml.Tensor
		id := func(i int) int { return (i*i + i/3) % rows }
		eachTotal(t, func(k *bench) (node, total ggml.Tensor) {
			total, dy = k.leaf("total", ggml.F32, n, rows), k.leaf("dy", ggml.F32, n, tokens/2, 2)
			ids := k.ctx.NewTensor(ggml.I32, tokens).SetInput().SetOutput()
			k.home = append(k.home, func() {
				for i := range ids.Ints() {
					ids.Ints()[i] = int32(id(i))
				}
			})
			return kernels.AddRows(k.ctx, total, dy, ids), total
		}, func() (want, scale []float64) {
			want, scale = make([]float64, n*rows), make([]float64, n*rows)
			for i, v := range values(dy) {
				at := id(i/int(n))*int(n) + i%int(n)
				want[at] += v
				scale[at] += math.Abs(v)
			}
			return want, scale
		})
	}
}

func TestAddSquaresAddsWeightedSquares(t *testing.T) {
	for _, ne := range [][2]int64{{1, 1}, {3, 5}, {64, 130}, {65, 300}, {1000, 7}} {
		n, tokens := ne[0], ne[1]
		var x ggml.Tensor
		weight := func(token int) float64 { return float64(token%3) / 2 }
		eachTotal(t, func(k *bench) (node, total ggml.Tensor) {
			total, x = k.leaf("total", ggml.F32, n), k.leaf("x", ggml.F32, n, tokens)
			weights := k.ctx.NewTensor(ggml.F32, tokens).SetInput().SetOutput()
			k.home = append(k.home, func() {
				for i := range weights.Floats() {
					weights.Floats()[i] = float32(weight(i))
				}
			})
			return kernels.AddSquares(k.ctx, total, x, weights), total
		}, func() (want, scale []float64) {
			want, scale = make([]float64, n), make([]float64, n)
			for i, v := range values(x) {
				want[i%int(n)] += weight(i/int(n)) * v * v
				scale[i%int(n)] += weight(i/int(n)) * v * v
			}
			return want, scale
		})
	}
}

func TestAddSumsAddsTheRows(t *testing.T) {
	for _, shape := range [][]int64{{1, 1}, {3, 5, 2}, {64, 130}, {65, 300}, {200, 3, 2, 5}} {
		for _, weighted := range []bool{false, true} {
			n := shape[0]
			if len(shape) == 4 {
				n *= shape[1] // the total is a matrix
			}
			var a, b ggml.Tensor
			eachTotal(t, func(k *bench) (node, total ggml.Tensor) {
				total = k.leaf("total", ggml.F32, shape[0], n/shape[0])
				a = k.leaf("a", ggml.F32, shape...)
				if b = (ggml.Tensor{}); weighted {
					b = k.leaf("b", ggml.F32, shape...)
				}
				return kernels.AddSums(k.ctx, total, a, b), total
			}, func() (want, scale []float64) {
				want, scale = make([]float64, n), make([]float64, n)
				for i, v := range values(a) {
					if weighted {
						v *= values(b)[i]
					}
					want[int64(i)%n] += v
					scale[int64(i)%n] += math.Abs(v)
				}
				return want, scale
			})
		}
	}
}
