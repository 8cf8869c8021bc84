package kernels_test

import (
	"slices"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

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
