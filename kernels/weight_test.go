package kernels_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// productTolerance bounds the error of a sum of K products in float32 against Σ|terms|. The worst case is K·2^-24; over
// the few hundred random terms of these tests roundings cancel to about √K·2^-24.
const productTolerance = 2e-6

// productCase is one product: w [nIn, nOut], x [nIn, n], ranks r1 and r2.
type productCase struct {
	typ                  ggml.Type
	nIn, nOut, n, r1, r2 int64
	fresh                bool // B = 0
}

func (c productCase) String() string {
	s := fmt.Sprintf("%s_%dx%dx%d_r%d+%d", c.typ, c.nIn, c.nOut, c.n, c.r1, c.r2)
	if c.fresh {
		s += "_fresh"
	}
	return s
}

// Sizes around the tiles (6, 14 rows; 8, 16, 32 columns) and the blocks (320 steps; 256, 512 columns) of the product, and
// of the gradients (768 columns, 1024 tokens); ranks above a tile.
func productCases() []productCase {
	cases := []productCase{
		{ggml.F32, 1, 1, 1, 1, 1, false},
		{ggml.F32, 172, 70, 15, 1, 3, false},
		{ggml.F32, 1601, 61, 33, 1, 7, false},
		{ggml.F32, 47, 700, 1100, 1, 15, false},
		{ggml.F32, 64, 96, 28, 1, 7, true},
		{ggml.F16, 172, 33, 14, 4, 4, false},
		{ggml.BF16, 45, 19, 5, 2, 1, false},
		{ggml.F32, 333, 601, 29, 3, 5, false},
		{ggml.F32, 700, 47, 41, 8, 8, false},
		{ggml.F32, 47, 700, 331, 4, 4, false},
		{ggml.F32, 130, 66, 1100, 2, 2, false},
		{ggml.F32, 1601, 15, 3, 2, 3, false},
		{ggml.F32, 40, 29, 5, 33, 17, false},
		{ggml.F32, 64, 96, 28, 4, 4, true},
		{typeNamed("q8_0"), 576, 192, 30, 4, 4, true},
	}
	for _, typ := range weightTypes() {
		cases = append(cases, productCase{typ, wideRow(typ), 37, 17, 3, 2, false}, productCase{typ, typ.BlockSize(), 5, 1, 1, 1, false})
	}
	return cases
}

// A type that ggml stops decoding would leave the tables above without a word.
func TestEveryTypeOfAWeightIsMultiplied(t *testing.T) {
	var got []string
	for _, typ := range weightTypes() {
		got = append(got, typ.String())
	}
	want := []string{
		"f16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "iq2_xxs", "iq2_xs", "iq3_xxs",
		"iq1_s", "iq4_nl", "iq3_s", "iq2_s", "iq4_xs", "iq1_m", "bf16", "tq1_0", "tq2_0", "mxfp4", "nvfp4", "q1_0", "q2_0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("types of weights are %q, want %q", got, want)
	}
}

// product is a graph of every product kernel over the same operands.
type product struct {
	w, x, dy             ggml.Tensor
	f                    [4]ggml.Tensor
	y, dx, dualY, dualDX ggml.Tensor
	grads                [][6]ggml.Tensor // by each kernel that has them: all or a's and b's, those of a, b, c and d, all or c's and d's
}

// gradsOf computes the gradients of a Dual LoRA's factors by each kernel that can.
func gradsOf(k *bench, x, dy ggml.Tensor, f [4]ggml.Tensor) [][6]ggml.Tensor {
	var one [6]ggml.Tensor
	one[0], one[1], one[2], one[3], one[4] = kernels.DualGrads(k.ctx, x, dy, f[0], f[1], f[2], f[3], productScale, 0)
	one[5] = one[0]
	if f[0].NE()[1] > 1 {
		return [][6]ggml.Tensor{one}
	}
	thin := one
	thin[0], thin[1], thin[2] = kernels.ThinMagnitude(k.ctx, x, dy, f[0], f[1], f[2], f[3], productScale, true)
	thin[5], thin[3], thin[4] = kernels.ThinDirections(k.ctx, x, dy, f[0], f[1], f[2], f[3], productScale)
	return [][6]ggml.Tensor{one, thin}
}

const productScale = 1.5

func newProduct(t *testing.T, c productCase, threads int) *product {
	t.Helper()
	k := newBench(t, 64, threads)
	p := &product{w: k.leaf("w", c.typ, c.nIn, c.nOut), x: k.leaf("x", ggml.F32, c.nIn, c.n), dy: k.leaf("dy", ggml.F32, c.nOut, c.n)}
	p.f = k.factors(p.w, c.r1, c.r2)
	if c.fresh {
		p.f[1] = k.leafOf("b", ggml.F32, func() float64 { return 0 }, c.r1, c.nOut)
	}
	a, b, cc, d := p.f[0], p.f[1], p.f[2], p.f[3]
	p.y, p.dx = kernels.WeightMul(k.ctx, p.w, p.x), kernels.WeightMulT(k.ctx, p.w, p.dy)
	p.dualY = kernels.DualMul(k.ctx, p.w, p.x, a, b, cc, d, productScale)
	p.dualDX = kernels.DualMulT(k.ctx, p.w, p.dy, a, b, cc, d, productScale)
	p.grads = gradsOf(k, p.x, p.dy, p.f)
	results := []ggml.Tensor{p.y, p.dx, p.dualY, p.dualDX}
	for _, g := range p.grads {
		results = append(results, g[:]...)
	}
	run := k.graph(results...)
	run()
	run() // scratch memory is not clean the second time
	return p
}

func TestProductsEqualTheirDefinition(t *testing.T) {
	eachSIMD(t, func(t *testing.T) {
		for _, c := range productCases() {
			t.Run(c.String(), func(t *testing.T) {
				p := newProduct(t, c, 1)
				checkProduct(t, c, p)
				more := []int{2, 3}
				if c.typ.BlockSize() > 1 {
					more = more[:1] // three threads on fewer cores wait for each other
				}
				for _, threads := range more {
					q := newProduct(t, c, threads)
					for i, pair := range [][2]ggml.Tensor{{p.y, q.y}, {p.dx, q.dx}, {p.dualY, q.dualY}, {p.dualDX, q.dualDX}, {p.grads[0][0], q.grads[0][0]},
						{p.grads[len(p.grads)-1][0], q.grads[len(p.grads)-1][0]}, {p.grads[len(p.grads)-1][5], q.grads[len(p.grads)-1][5]}} {
						if !slices.Equal(pair[0].Floats(), pair[1].Floats()) {
							t.Errorf("result %d differs between 1 and %d threads", i, threads)
						}
					}
				}
			})
		}
	})
}

// checkProduct compares with sums in float64. M and N are exact in both: the factors are multiples of 1/8.
func checkProduct(t *testing.T, c productCase, p *product) {
	w, x, dy := values(p.w), values(p.x), values(p.dy)
	m, n := rankProduct(c, p.f[0], p.f[1], c.r1), rankProduct(c, p.f[2], p.f[3], c.r2)
	sum := make([]float64, len(w)) // w + ΔW
	for i := range sum {
		sum[i] = w[i] + productScale*max(m[i], 0)*sign(n[i])
	}
	for _, r := range []struct {
		what  string
		w     []float64
		y, dx ggml.Tensor
	}{{"W", w, p.y, p.dx}, {"W + ΔW", sum, p.dualY, p.dualDX}} {
		want, scale := multiply(c.n, c.nOut, c.nIn, func(t, o, i int64) float64 { return r.w[o*c.nIn+i] * x[t*c.nIn+i] })
		near(t, "("+r.what+")·x", r.y.Floats(), want, scale, productTolerance)
		want, scale = multiply(c.n, c.nIn, c.nOut, func(t, i, o int64) float64 { return r.w[o*c.nIn+i] * dy[t*c.nOut+o] })
		near(t, "("+r.what+")ᵀ·dy", r.dx.Floats(), want, scale, productTolerance)
	}
	if c.fresh && (!slices.Equal(p.y.Floats(), p.dualY.Floats()) || !slices.Equal(p.dx.Floats(), p.dualDX.Floats())) {
		t.Error("a fresh adapter changes a product")
	}
	checkGrads(t, c, p, m, n, x, dy)
}

func checkGrads(t *testing.T, c productCase, p *product, m, n, x, dy []float64) {
	g, gs := multiply(c.nOut, c.nIn, c.n, func(o, i, t int64) float64 { return x[t*c.nIn+i] * dy[t*c.nOut+o] })
	dm, dms, dn, dns := make([]float64, len(g)), make([]float64, len(g)), make([]float64, len(g)), make([]float64, len(g))
	for i := range g {
		if m[i] >= 0 {
			dm[i], dms[i] = productScale*g[i]*sign(n[i]), productScale*gs[i]
		}
		dn[i], dns[i] = productScale*g[i]*max(m[i], 0), productScale*gs[i]*max(m[i], 0)
	}
	for _, got := range p.grads {
		name := kernels.Name(got[0])
		checkFactor(t, c, "A, B by "+name, p.f[0], p.f[1], got[1], got[2], c.r1, dm, dms)
		checkFactor(t, c, "C, D by "+name, p.f[2], p.f[3], got[3], got[4], c.r2, dn, dns)
	}
}

// checkFactor compares dA = Bᵀ·dP and dB = dP·Aᵀ; scale bounds |dP| term by term.
func checkFactor(t *testing.T, c productCase, what string, at, bt, da, db ggml.Tensor, r int64, dp, scale []float64) {
	a, b := values(at), values(bt)
	product := func(dp []float64, f func(float64) float64) (wa, wb []float64) {
		wa, _ = multiply(r, c.nIn, c.nOut, func(k, i, o int64) float64 { return f(b[o*r+k]) * dp[o*c.nIn+i] })
		wb, _ = multiply(c.nOut, r, c.nIn, func(o, k, i int64) float64 { return f(a[k*c.nIn+i]) * dp[o*c.nIn+i] })
		return wa, wb
	}
	wantA, wantB := product(dp, func(v float64) float64 { return v })
	scaleA, scaleB := product(scale, math.Abs)
	near(t, "gradient of the left of "+what, da.Floats(), wantA, scaleA, productTolerance)
	near(t, "gradient of the right of "+what, db.Floats(), wantB, scaleB, productTolerance)
}

// rankProduct is B·A [n_in, n_out].
func rankProduct(c productCase, at, bt ggml.Tensor, r int64) []float64 {
	a, b := values(at), values(bt)
	p, _ := multiply(c.nOut, c.nIn, r, func(o, i, k int64) float64 { return b[o*r+k] * a[k*c.nIn+i] })
	return p
}

// multiply sums term(i, j, k) and |term| over k for rows i of columns j.
func multiply(rows, cols, terms int64, term func(i, j, k int64) float64) (sum, abs []float64) {
	sum, abs = make([]float64, rows*cols), make([]float64, rows*cols)
	for i := range rows {
		for j := range cols {
			var s, a float64
			for k := range terms {
				v := term(i, j, k)
				s += v
				a += math.Abs(v)
			}
			sum[i*cols+j], abs[i*cols+j] = s, a
		}
	}
	return sum, abs
}

func sign(v float64) float64 {
	if v > 0 {
		return 1
	}
	return -1
}
