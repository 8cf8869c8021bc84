package kernels_test

import (
	"math"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// rowTolerance bounds what float32 and an exponential of 2e-7 make of a handful of operations, against the size of their
// terms.
const rowTolerance = 2e-6

var rowLengths = []int64{1, 3, 16, 33, 172, 1025}

// rowsBench has operands that are nodes, whose memory an allocator that computes in place would hand to the result.
func rowsBench(t *testing.T, threads int, ne ...[]int64) (*bench, []ggml.Tensor, []ggml.Tensor) {
	k := newBench(t, 64, threads)
	var leaves, nodes []ggml.Tensor
	for _, shape := range ne {
		l := k.leaf("operand", ggml.F32, shape...)
		leaves = append(leaves, l)
		nodes = append(nodes, k.ctx.Scale(l, 1))
	}
	return k, leaves, nodes
}

func eachRowCase(t *testing.T, f func(t *testing.T, n int64, threads int)) {
	eachSIMD(t, func(t *testing.T) {
		for _, n := range rowLengths {
			for _, threads := range []int{1, 3} {
				f(t, n, threads)
			}
		}
	})
}

func TestRMSNormBackEqualsItsDefinition(t *testing.T) {
	const eps = 1e-2
	eachRowCase(t, func(t *testing.T, n int64, threads int) {
		shape := []int64{n, 3, 2}
		k, in, nodes := rowsBench(t, threads, shape, shape)
		out := kernels.RMSNormBack(k.ctx, nodes[0], nodes[1], eps)
		k.graph(out)()
		x, dy := values(in[0]), values(in[1])
		want, scale := make([]float64, len(x)), make([]float64, len(x))
		for row := int64(0); row < 6*n; row += n {
			var square, dot, abs float64
			for i := row; i < row+n; i++ {
				square += x[i] * x[i]
				dot += x[i] * dy[i]
				abs += math.Abs(x[i] * dy[i])
			}
			r2 := square/float64(n) + eps
			for i := row; i < row+n; i++ {
				want[i] = (dy[i] - x[i]*dot/(float64(n)*r2)) / math.Sqrt(r2)
				scale[i] = (math.Abs(dy[i]) + math.Abs(x[i])*abs/(float64(n)*r2)) / math.Sqrt(r2)
			}
		}
		near(t, "dx", out.Floats(), want, scale, rowTolerance)
	})
}

// layerNorm is the definition: y and dx of one row, and the sizes of their terms.
func layerNorm(x, w, dy []float64, eps float64) (y, ySize, dx, dxSize []float64) {
	n := float64(len(x))
	var mean, meanAbs, variance, sum, dot, sumAbs, dotAbs float64
	for _, v := range x {
		mean, meanAbs = mean+v/n, meanAbs+math.Abs(v)/n
	}
	for i, v := range x {
		variance += (v - mean) * (v - mean) / n
		sum += w[i] * dy[i] / n
		dot += w[i] * dy[i] * (v - mean) / n
		sumAbs += math.Abs(w[i]*dy[i]) / n
		dotAbs += math.Abs(w[i]*dy[i]*(v-mean)) / n
	}
	r := math.Sqrt(variance + eps)
	for i, v := range x {
		y = append(y, w[i]*(v-mean)/r)
		ySize = append(ySize, math.Abs(w[i])*(math.Abs(v)+meanAbs)/r)
		dx = append(dx, (w[i]*dy[i]-sum-(v-mean)*dot/(r*r))/r)
		dxSize = append(dxSize, (math.Abs(w[i]*dy[i])+sumAbs+(math.Abs(v)+meanAbs)*dotAbs/(r*r))/r)
	}
	return y, ySize, dx, dxSize
}

func TestNormsWithAMeanEqualTheirDefinition(t *testing.T) {
	const eps = 1e-2
	eachRowCase(t, func(t *testing.T, n int64, threads int) {
		shape := []int64{n, 3, 2}
		k, in, nodes := rowsBench(t, threads, shape, shape, []int64{n})
		y := kernels.NormMul(k.ctx, nodes[0], in[2], eps)
		weighed := kernels.NormMulBack(k.ctx, nodes[0], in[2], nodes[1], eps)
		plain := kernels.NormBack(k.ctx, nodes[0], nodes[1], eps)
		k.graph(y, weighed, plain)()
		x, dy, w := values(in[0]), values(in[1]), values(in[2])
		ones := make([]float64, n)
		for i := range ones {
			ones[i] = 1
		}
		for row := int64(0); row < 6*n; row += n {
			part := func(v []float32) []float32 { return v[row:][:n] }
			wantY, ySize, wantDX, size := layerNorm(x[row:][:n], w, dy[row:][:n], eps)
			near(t, "y", part(y.Floats()), wantY, ySize, rowTolerance)
			near(t, "dx with a weight", part(weighed.Floats()), wantDX, size, rowTolerance)
			_, _, wantDX, size = layerNorm(x[row:][:n], ones, dy[row:][:n], eps)
			near(t, "dx", part(plain.Floats()), wantDX, size, rowTolerance)
		}
	})
}

// geluTolerance is what ggml's sum 1 + tanh u loses at the left end, where it is nearly 0, times x; halfPrecision what a value that lies between
// two half-precision numbers may be rounded to: the one or the other.
const (
	geluTolerance = 1e-6
	halfPrecision = 1. / 1024
	mostApart     = 0.1 // share of the values, mostly at that end, that are rounded otherwise than ggml's
)

func TestGeluEqualsGgmls(t *testing.T) {
	eachRowCase(t, func(t *testing.T, n int64, threads int) {
		k, in, nodes := rowsBench(t, threads, []int64{n, 3, 2})
		x := k.ctx.Scale(nodes[0], 12)
		rounded, smooth, want := kernels.Gelu(k.ctx, x, true), kernels.Gelu(k.ctx, x, false), k.ctx.Gelu(x)
		k.graph(rounded, smooth, want)()
		apart := 0
		for i, v := range values(in[0]) {
			v := float64(float32(v) * 12)
			exact := v / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v)))
			compare(t, "smooth", smooth.Floats()[i], exact, 1+math.Abs(v))
			got, of := float64(rounded.Floats()[i]), float64(want.Floats()[i])
			if got != of {
				apart++
			}
			if !(math.Abs(got-of) <= geluTolerance+halfPrecision*math.Abs(of)) {
				t.Errorf("GELU of %v = %v, ggml has %v", v, got, of)
			}
		}
		if share := float64(apart) / float64(6*n); share > mostApart && apart > 2 {
			t.Errorf("%d of %d values are not those of ggml's table", apart, 6*n)
		}
	})
}

func TestGeluBackEqualsItsDefinition(t *testing.T) {
	eachRowCase(t, func(t *testing.T, n int64, threads int) {
		shape := []int64{n, 3, 2}
		k, in, nodes := rowsBench(t, threads, shape, shape)
		out := kernels.GeluBack(k.ctx, k.ctx.Scale(nodes[0], 8), nodes[1]) // as far as both ends of the slope
		k.graph(out)()
		x, dy := values(in[0]), values(in[1])
		want, size := make([]float64, len(x)), make([]float64, len(x))
		for i, v := range x {
			const a = 0.044715
			v, k := float64(float32(v)*8), math.Sqrt(2/math.Pi)
			tanh := math.Tanh(k * (v + a*v*v*v))
			want[i] = dy[i] * ((1+tanh)/2 + v/2*(1-tanh*tanh)*k*(1+3*a*v*v))
			size[i] = math.Abs(dy[i]) * (1 + math.Abs(v)) // the slope's exponent is as exact as its argument
		}
		near(t, "dx", out.Floats(), want, size, rowTolerance)
	})
}

func TestSoftMaxBackEqualsItsDefinition(t *testing.T) {
	const c = 0.125
	eachRowCase(t, func(t *testing.T, n int64, threads int) {
		shape := []int64{n, 3, 2}
		k, in, nodes := rowsBench(t, threads, shape, shape)
		out := kernels.SoftMaxBack(k.ctx, nodes[0], nodes[1], c)
		k.graph(out)()
		y, dy := values(in[0]), values(in[1])
		want, scale := make([]float64, len(y)), make([]float64, len(y))
		for row := int64(0); row < 6*n; row += n {
			var dot, abs float64
			for i := row; i < row+n; i++ {
				dot += y[i] * dy[i]
				abs += math.Abs(y[i] * dy[i])
			}
			for i := row; i < row+n; i++ {
				want[i] = c * y[i] * (dy[i] - dot)
				scale[i] = c * math.Abs(y[i]) * (math.Abs(dy[i]) + abs)
			}
		}
		near(t, "dx", out.Floats(), want, scale, rowTolerance)
	})
}

func TestSwigluBackEqualsItsDefinition(t *testing.T) {
	eachRowCase(t, func(t *testing.T, n int64, threads int) {
		shape := []int64{n, 3, 2}
		k, in, nodes := rowsBench(t, threads, shape, shape, shape, []int64{2 * n, 3, 2})
		dg, du := kernels.SwigluBack(k.ctx, nodes[0], nodes[1], nodes[2])
		first, second := kernels.SwigluBackFused(k.ctx, nodes[3], nodes[2], false), kernels.SwigluBackFused(k.ctx, nodes[3], nodes[2], true)
		k.graph(dg, du, first, second)()
		g, u, dy, both := values(in[0]), values(in[1]), values(in[2]), values(in[3])
		for i := range g {
			wantG, wantU := swigluGrads(g[i], u[i], dy[i])
			compare(t, "dg", dg.Floats()[i], wantG, math.Abs(u[i]*dy[i]))
			compare(t, "du", du.Floats()[i], wantU, math.Abs(g[i]*dy[i]))
			a := int64(i)/n*2*n + int64(i)%n
			b := a + n
			wantG, wantU = swigluGrads(both[a], both[b], dy[i])
			compare(t, "fused dg", first.Floats()[a], wantG, math.Abs(both[b]*dy[i]))
			compare(t, "fused du", first.Floats()[b], wantU, math.Abs(both[a]*dy[i]))
			wantG, wantU = swigluGrads(both[b], both[a], dy[i])
			compare(t, "swapped dg", second.Floats()[b], wantG, math.Abs(both[a]*dy[i]))
			compare(t, "swapped du", second.Floats()[a], wantU, math.Abs(both[b]*dy[i]))
		}
	})
}

func swigluGrads(g, u, dy float64) (dg, du float64) {
	s := 1 / (1 + math.Exp(-g))
	return dy * u * s * (1 + g*(1-s)), dy * g * s
}

func compare(t *testing.T, what string, got float32, want, scale float64) {
	t.Helper()
	if !(math.Abs(float64(got)-want) <= rowTolerance*scale) {
		t.Errorf("%s = %v, want %v within %v", what, got, want, rowTolerance*scale)
	}
}

// Logits are multiples of 1/64, so that differences from the maximum are exact and the exponential is all that is off.
// The greatest comes last, which rescales every sum before it.
func TestCrossEntropyEqualsItsDefinition(t *testing.T) {
	const expTolerance = 4e-7 // the exponential's 2e-7, the sum's and the scale's roundings
	eachSIMD(t, func(t *testing.T) {
		for _, v := range []int64{1, 2, 31, 1024, 1025, 5000} {
			k := newBench(t, 16, 2)
			logits := k.leafOf("logits", ggml.F32, func() float64 { return float64(k.rng.IntN(64*80)) / 64 }, v, 3)
			targets, weights := k.ctx.NewTensor(ggml.I32, 3).SetInput(), k.ctx.NewTensor(ggml.F32, 3).SetInput()
			nll := k.ctx.NewTensor(ggml.F32, 3).SetInput().SetOutput()
			d := kernels.CrossEntropy(k.ctx, logits, targets, weights, nll, false)
			run := k.graph(d)
			logits.Floats()[v-1] = 80
			targets.SetInts([]int32{0, int32(v / 2), 0})
			weights.SetFloats([]float32{0.5, 2, 0})
			run()
			checkCrossEntropy(t, values(logits), d.Floats(), nll.Floats(), int(v), []int{0, int(v / 2), 0}, []float64{0.5, 2, 0}, expTolerance)
		}
	})
}

func checkCrossEntropy(t *testing.T, x []float64, d, nll []float32, v int, targets []int, weights []float64, tolerance float64) {
	t.Helper()
	for row, w := range weights {
		x, d := x[row*v:(row+1)*v], d[row*v:(row+1)*v]
		m, z := math.Inf(-1), 0.0
		for _, l := range x {
			m = max(m, l)
		}
		for _, l := range x {
			z += math.Exp(l - m)
		}
		want, scale := make([]float64, v), make([]float64, v)
		for i, l := range x {
			p := math.Exp(l-m) / z
			want[i], scale[i] = w*p, w*p
			if i == targets[row] {
				want[i], scale[i] = w*(p-1), w
			}
		}
		near(t, "dlogits", d, want, scale, tolerance)
		loss := 0.0
		if w != 0 {
			loss = math.Log(z) - (x[targets[row]] - m)
		}
		if got := float64(nll[row]); !(math.Abs(got-loss) <= tolerance*(1+loss)) {
			t.Errorf("nll = %v, want %v", got, loss)
		}
	}
}

func TestRMSNormMulEqualsItsDefinition(t *testing.T) {
	const eps = 1e-2
	eachRowCase(t, func(t *testing.T, n int64, threads int) {
		shape := []int64{n, 3, 2}
		k, in, nodes := rowsBench(t, threads, shape, []int64{n}, shape)
		y := kernels.RMSNormMul(k.ctx, nodes[0], nodes[1], eps)
		dx := kernels.RMSNormMulBack(k.ctx, nodes[0], nodes[1], nodes[2], eps)
		k.graph(y, dx)()
		x, w, dy := values(in[0]), values(in[1]), values(in[2])
		wantY, sizeY := make([]float64, len(x)), make([]float64, len(x))
		wantDX, sizeDX := make([]float64, len(x)), make([]float64, len(x))
		for row := int64(0); row < 6*n; row += n {
			var square, dot, abs float64
			for i := range n {
				g := w[i] * dy[row+i]
				square += x[row+i] * x[row+i]
				dot += x[row+i] * g
				abs += math.Abs(x[row+i] * g)
			}
			r2 := square/float64(n) + eps
			r := math.Sqrt(r2)
			for i := range n {
				at, g := row+i, w[i]*dy[row+i]
				wantY[at] = w[i] * x[at] / r
				sizeY[at] = math.Abs(wantY[at])
				wantDX[at] = (g - x[at]*dot/(float64(n)*r2)) / r
				sizeDX[at] = (math.Abs(g) + math.Abs(x[at])*abs/(float64(n)*r2)) / r
			}
		}
		near(t, "y", y.Floats(), wantY, sizeY, rowTolerance)
		near(t, "dx", dx.Floats(), wantDX, sizeDX, rowTolerance)
	})
}

// TestRotateEqualsRope compares with ggml's rotation and, turned back, with what it started from.
func TestRotateEqualsRope(t *testing.T) {
	eachSIMD(t, func(t *testing.T) {
		for _, c := range []struct{ n, dims, heads, tokens int64 }{{2, 2, 1, 1}, {10, 8, 3, 5}, {64, 64, 9, 7}, {80, 32, 2, 9}, {66, 66, 1, 3}} {
			for _, mode := range []int{0, 2} {
				for _, threads := range []int{1, 3} {
					k := newBench(t, 64, threads)
					all := k.leaf("x", ggml.F32, c.n+3, c.heads, c.tokens) // x is part of longer rows
					x := k.ctx.View(all, [4]int64{c.n, c.heads, c.tokens, 1}, all.NB(), 4)
					pos := k.leafOf("pos", ggml.F32, func() float64 { return float64(k.rng.IntN(500)) }, c.tokens)
					ids := k.ctx.Cast(pos, ggml.I32)
					rope := k.ctx.Rope(k.ctx.Cont(x), ids, ggml.Tensor{}, int(c.dims), mode, 1e4)
					table := kernels.RopeTable(k.ctx, rope, ids, ggml.Tensor{})
					y := kernels.Rotate(k.ctx, x, table, false, mode == 2)
					back := kernels.Rotate(k.ctx, y, table, true, mode == 2)
					start := k.ctx.Cont(x)
					k.graph(rope, y, back, start)()
					size := make([]float64, y.Elements())
					for i := range size {
						size[i] = 4 // of the largest normal numbers
					}
					near(t, "y", y.Floats(), values(rope), size, rowTolerance)
					near(t, "turned back", back.Floats(), values(start), size, rowTolerance)
				}
			}
		}
	})
}
