package kernels_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// loraCase is w [nIn, nOut], x [nIn, n] and a rank.
type loraCase struct {
	typ             ggml.Type
	nIn, nOut, n, r int64
	fresh           bool // B = 0
}

func (c loraCase) String() string {
	s := fmt.Sprintf("%s_%dx%dx%d_r%d", c.typ, c.nIn, c.nOut, c.n, c.r)
	if c.fresh {
		s += "_fresh"
	}
	return s
}

// Threads share what a type has no part in, and on fewer cores they wait for each other: some types stand for all.
func (c loraCase) moreThreads() []int {
	if c.typ.BlockSize() > 1 && c.n < 30 {
		return nil
	}
	return []int{2, 3}
}

func loraCases() []loraCase {
	cases := []loraCase{
		{ggml.F32, 1, 1, 1, 1, false}, {ggml.F32, 5, 3, 3, 3, false}, {ggml.F32, 172, 70, 17, 8, false},
		{ggml.F16, 45, 33, 33, 16, false}, {ggml.F32, 333, 601, 29, 5, false}, {ggml.F32, 47, 700, 331, 8, false},
		{typeNamed("q8_0"), 576, 192, 30, 8, false}, {typeNamed("q4_K"), 512, 96, 14, 64, false},
		{ggml.F32, 2500, 37, 13, 4, false}, {ggml.F32, 64, 96, 1100, 2, false},
		{ggml.F32, 64, 96, 28, 8, true}, {typeNamed("q8_0"), 576, 192, 30, 3, true},
		{ggml.F32, 64, 47, 5, 333, false},
	}
	for _, typ := range weightTypes() {
		cases = append(cases, loraCase{typ, wideRow(typ), 37, 17, 5, false}, loraCase{typ, typ.BlockSize(), 5, 1, 1, false})
	}
	return cases
}

// loraProduct is a graph of the three kernels over the same operands.
type loraProduct struct{ w, x, dy, a, b, y, dx, loraY, loraDX, grads, da, db ggml.Tensor }

func newLoRAProduct(t *testing.T, c loraCase, threads int) *loraProduct {
	t.Helper()
	k := newBench(t, 64, threads)
	p := &loraProduct{
		w: k.leaf("w", c.typ, c.nIn, c.nOut), x: k.leaf("x", ggml.F32, c.nIn, c.n), dy: k.leaf("dy", ggml.F32, c.nOut, c.n),
		a: k.leaf("a", ggml.F32, c.nIn, c.r),
	}
	p.b = k.leafOf("b", ggml.F32, func() float64 {
		if c.fresh {
			return 0
		}
		return k.rng.NormFloat64()
	}, c.r, c.nOut)
	p.y, p.dx = kernels.WeightMul(k.ctx, p.w, p.x), kernels.WeightMulT(k.ctx, p.w, p.dy)
	p.loraY = kernels.LoRAMul(k.ctx, p.w, p.x, p.a, p.b, productScale)
	p.loraDX = kernels.LoRAMulT(k.ctx, p.w, p.dy, p.a, p.b, productScale)
	p.grads, p.da, p.db = kernels.LoRAGrads(k.ctx, p.x, p.dy, p.a, p.b, productScale)
	run := k.graph(p.y, p.dx, p.loraY, p.loraDX, p.grads, p.da, p.db)
	run()
	run() // scratch memory is not clean the second time
	return p
}

func TestLoRAProductsEqualTheirDefinition(t *testing.T) {
	eachSIMD(t, func(t *testing.T) {
		for _, c := range loraCases() {
			t.Run(c.String(), func(t *testing.T) {
				p := newLoRAProduct(t, c, 1)
				checkLoRAProducts(t, c, p)
				checkLoRAGrads(t, c, p)
				for _, threads := range c.moreThreads() {
					q := newLoRAProduct(t, c, threads)
					for i, pair := range [][2]ggml.Tensor{{p.loraY, q.loraY}, {p.loraDX, q.loraDX}, {p.grads, q.grads}} {
						if !slices.Equal(pair[0].Floats(), pair[1].Floats()) {
							t.Errorf("result %d differs between 1 and %d threads", i, threads)
						}
					}
				}
			})
		}
	})
}

// checkLoRAProducts compares with sums in float64, whose terms are bounded by those of W, B and A.
func checkLoRAProducts(t *testing.T, c loraCase, p *loraProduct) {
	w, x, dy := values(p.w), values(p.x), values(p.dy)
	a, b := values(p.a), values(p.b)
	delta, bound := multiply(c.nOut, c.nIn, c.r, func(o, i, k int64) float64 { return productScale * b[o*c.r+k] * a[k*c.nIn+i] })
	sum := make([]float64, len(w))
	for i := range w {
		sum[i], bound[i] = w[i]+delta[i], bound[i]+math.Abs(w[i])
	}
	product := func(w []float64, f func(float64) float64) (y, dx []float64) {
		y, _ = multiply(c.n, c.nOut, c.nIn, func(t, o, i int64) float64 { return w[o*c.nIn+i] * f(x[t*c.nIn+i]) })
		dx, _ = multiply(c.n, c.nIn, c.nOut, func(t, i, o int64) float64 { return w[o*c.nIn+i] * f(dy[t*c.nOut+o]) })
		return y, dx
	}
	y, dx := product(sum, func(v float64) float64 { return v })
	yScale, dxScale := product(bound, math.Abs)
	near(t, "(W + ΔW)·x", p.loraY.Floats(), y, yScale, productTolerance)
	near(t, "(W + ΔW)ᵀ·dy", p.loraDX.Floats(), dx, dxScale, productTolerance)
	if c.fresh && (!slices.Equal(p.y.Floats(), p.loraY.Floats()) || !slices.Equal(p.dx.Floats(), p.loraDX.Floats())) {
		t.Error("a fresh adapter changes a product")
	}
}

func checkLoRAGrads(t *testing.T, c loraCase, p *loraProduct) {
	x, dy, a, b := values(p.x), values(p.dy), values(p.a), values(p.b)
	inner, innerScale := multiply(c.n, c.r, c.nIn, func(t, k, i int64) float64 { return productScale * a[k*c.nIn+i] * x[t*c.nIn+i] })
	dt, dtScale := multiply(c.n, c.r, c.nOut, func(t, k, o int64) float64 { return productScale * b[o*c.r+k] * dy[t*c.nOut+o] })
	outer := func(inner, dt []float64, f func(float64) float64) (da, db []float64) {
		da, _ = multiply(c.r, c.nIn, c.n, func(k, i, t int64) float64 { return f(x[t*c.nIn+i]) * dt[t*c.r+k] })
		db, _ = multiply(c.nOut, c.r, c.n, func(o, k, t int64) float64 { return f(dy[t*c.nOut+o]) * inner[t*c.r+k] })
		return da, db
	}
	da, db := outer(inner, dt, func(v float64) float64 { return v })
	daScale, dbScale := outer(innerScale, dtScale, math.Abs)
	near(t, "dA", p.da.Floats(), da, daScale, productTolerance)
	near(t, "dB", p.db.Floats(), db, dbScale, productTolerance)
}

func TestLoRAMulOnWrongOperandsPanics(t *testing.T) {
	k := newBench(t, 64, 1)
	leaf := func(ne ...int64) ggml.Tensor { return k.leaf("t", ggml.F32, ne...) }
	w, x, dy, a, b := leaf(8, 6), leaf(8, 4), leaf(6, 4), leaf(8, 2), leaf(2, 6)
	tests := map[string]func(){
		"x has other steps":   func() { kernels.LoRAMul(k.ctx, w, dy, a, b, 1) },
		"dy has other steps":  func() { kernels.LoRAMulT(k.ctx, w, x, a, b, 1) },
		"a has other columns": func() { kernels.LoRAMul(k.ctx, w, x, leaf(7, 2), b, 1) },
		"b has another rank":  func() { kernels.LoRAMulT(k.ctx, w, dy, a, leaf(3, 6), 1) },
		"dy has other tokens": func() { kernels.LoRAGrads(k.ctx, x, leaf(6, 5), a, b, 1) },
		"b does not fit dy":   func() { kernels.LoRAGrads(k.ctx, x, dy, a, leaf(2, 5), 1) },
	}
	for name, call := range tests {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			call()
		})
	}
}
