package kernels_test

import (
	"slices"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Of one of every four tokens dA and dB are those of these tokens alone, and scaled; dC and dD are of all.
func TestThinGradsOverSomeTokens(t *testing.T) {
	eachSIMD(t, func(t *testing.T) {
		for _, tt := range []struct {
			tokens int64
			every  int
			first  int64
			used   int64
		}{{16, 4, 2, 4}, {19, 4, 2, 5}, {18, 4, 2, 4}, {1, 4, 0, 1}, {2, 9, 1, 1}, {7, 2, 1, 3}} {
			const nIn, nOut, r = 45, 33, 3
			k := newBench(t, 64, 2)
			x, dy := k.small("x", nIn, tt.tokens), k.small("dy", nOut, tt.tokens)
			w := k.small("w", nIn, nOut)
			f := k.factors(w, 1, r)
			some, a, b, c, d := kernels.ThinGrads(k.ctx, x, dy, f[0], f[1], f[2], f[3], productScale, tt.every)
			_, _, _, allC, allD := kernels.ThinGrads(k.ctx, x, dy, f[0], f[1], f[2], f[3], productScale, 1)
			px, pdy := k.small("part x", nIn, tt.used), k.small("part dy", nOut, tt.used)
			_, partA, partB, _, _ := kernels.DualGrads(k.ctx, px, pdy, f[0], f[1], f[2], f[3], productScale, 0)
			run := k.graph(some, a, b, c, d, allC, allD, partA, partB)
			for i, pair := range [][2]ggml.Tensor{{x, px}, {dy, pdy}} {
				n := []int64{nIn, nOut}[i]
				var rows []float32
				for row := tt.first; row < tt.tokens; row += int64(tt.every) {
					rows = append(rows, pair[0].Floats()[row*n:(row+1)*n]...)
				}
				pair[1].SetFloats(rows)
			}
			run()
			if !slices.Equal(c.Floats(), allC.Floats()) || !slices.Equal(d.Floats(), allD.Floats()) {
				t.Errorf("%+v: dC or dD are not of all tokens", tt)
			}
			for i, pair := range [][2]ggml.Tensor{{a, partA}, {b, partB}} {
				want, scale := values(pair[1]), make([]float64, pair[1].Elements())
				for e := range want {
					want[e] *= float64(tt.tokens) / float64(tt.used)
					scale[e] = float64(nIn*nOut) * float64(tt.tokens)
				}
				near(t, []string{"dA", "dB"}[i], pair[0].Floats(), want, scale, productTolerance)
			}
		}
	})
}

// A limit takes from dN what lies above it, and from nothing else.
func TestDualGradsWithALimit(t *testing.T) {
	eachSIMD(t, func(t *testing.T) {
		const limit = 0.5
		c := productCase{ggml.F32, 172, 70, 15, 2, 3, false}
		k := newBench(t, 64, 1)
		x, dy, w := k.small("x", c.nIn, c.n), k.small("dy", c.nOut, c.n), k.small("w", c.nIn, c.nOut)
		f := k.factors(w, c.r1, c.r2)
		_, da, db, dc, dd := kernels.DualGrads(k.ctx, x, dy, f[0], f[1], f[2], f[3], productScale, limit)
		_, allA, allB, _, _ := kernels.DualGrads(k.ctx, x, dy, f[0], f[1], f[2], f[3], productScale, 0)
		k.graph(da, db, dc, dd, allA, allB)()
		if !slices.Equal(da.Floats(), allA.Floats()) || !slices.Equal(db.Floats(), allB.Floats()) {
			t.Error("the limit changes dA or dB")
		}
		xv, dyv := values(x), values(dy)
		m, n := rankProduct(c, f[0], f[1], c.r1), rankProduct(c, f[2], f[3], c.r2)
		g, gs := multiply(c.nOut, c.nIn, c.n, func(o, i, t int64) float64 { return xv[t*c.nIn+i] * dyv[t*c.nOut+o] })
		on, inside := 0, 0
		for i := range g {
			if m[i] > 0 {
				on++
			}
			pass := productScale * max(m[i], 0)
			if max(n[i], -n[i]) > limit {
				pass = 0
			} else if m[i] > 0 {
				inside++
			}
			g[i], gs[i] = g[i]*pass, gs[i]*pass
		}
		if inside == 0 || inside == on {
			t.Fatalf("%d of %d are inside of the limit", inside, on)
		}
		checkFactor(t, c, "C, D with a limit", f[2], f[3], dc, dd, c.r2, g, gs)
	})
}
