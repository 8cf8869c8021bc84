package kernels_test

import (
	"fmt"
	"slices"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// layout is how a tensor [d0, d1, d2, d3] lies in memory: dimension i of the memory is dimension axes[i] of the tensor.
type layout struct {
	name string
	axes [4]int
}

var layouts = []layout{
	{"plain", [4]int{0, 1, 2, 3}},
	{"tokens_over_heads", [4]int{0, 2, 1, 3}},
	{"transposed", [4]int{1, 0, 2, 3}},
	{"transposed_tokens_over_heads", [4]int{1, 2, 0, 3}},
}

// view makes an F32 leaf and a view of it with the wanted shape and layout.
func (k *bench) view(name string, l layout, ne [4]int64) ggml.Tensor {
	var mem [4]int64
	for i, axis := range l.axes {
		mem[i] = ne[axis]
	}
	return k.ctx.Permute(k.leaf(name, ggml.F32, mem[:]...), l.axes)
}

// strided reads element (i0, i1, i2, i3) of an F32 tensor, or of a view of one.
func strided(t ggml.Tensor) func(i0, i1, i2, i3 int64) float64 {
	whole := t
	if of := t.ViewSrc(); !of.IsNil() {
		whole = of
	}
	nb, v := t.NB(), whole.Floats()
	return func(i0, i1, i2, i3 int64) float64 {
		return float64(v[(t.ViewOffset()+i0*nb[0]+i1*nb[1]+i2*nb[2]+i3*nb[3])/4])
	}
}

// batchCase is a [k, n, p, q] against heads [·, m, p·groups2, q·groups3].
type batchCase struct {
	k, n, m, p, groups2, q, groups3 int64
	a, b, dy                        layout
}

func (c batchCase) String() string {
	return fmt.Sprintf("k%d_n%d_m%d_%dx%d_%dx%d_%s_%s_%s", c.k, c.n, c.m, c.p, c.groups2, c.q, c.groups3, c.a.name, c.b.name, c.dy.name)
}

// Sizes around the tiles and blocks of the product, each in layouts that change from one to the next.
func batchCases() (cases []batchCase) {
	sizes := [][7]int64{
		{5, 1, 1, 1, 1, 1, 1}, {1, 3, 1, 2, 1, 1, 1}, {5, 3, 3, 1, 2, 1, 1}, {5, 17, 17, 2, 3, 1, 1}, {5, 33, 33, 1, 7, 2, 1},
		{16, 33, 17, 2, 1, 2, 3}, {33, 5, 17, 3, 2, 1, 1}, {64, 40, 42, 3, 3, 1, 1}, {47, 64, 30, 2, 2, 1, 2}, {337, 70, 29, 1, 2, 1, 1},
		{70, 337, 14, 2, 1, 1, 1}, {8, 9, 700, 1, 2, 1, 1}, {12, 2600, 15, 1, 1, 1, 1}, {2600, 12, 15, 1, 1, 1, 1},
	}
	for i, s := range sizes {
		turns := len(layouts)
		if s[0]*s[1]*s[2] > 20000 {
			turns = 1
		}
		for j := range turns {
			l := func(n int) layout { return layouts[(i*n+j*n)%len(layouts)] }
			cases = append(cases, batchCase{s[0], s[1], s[2], s[3], s[4], s[5], s[6], l(1), l(2), l(3)})
		}
	}
	return cases
}

// batch is a graph of the three products: y = aᵀ·b, db for dy, da for dy, and da transposed.
type batch struct{ a, b, dy, y, db, da, daT ggml.Tensor }

func newBatch(t *testing.T, c batchCase, threads int) *batch {
	t.Helper()
	k := newBench(t, 64, threads)
	heads, all := [2]int64{c.p, c.q}, [2]int64{c.p * c.groups2, c.q * c.groups3}
	x := &batch{
		a:  k.view("a", c.a, [4]int64{c.k, c.n, heads[0], heads[1]}),
		b:  k.view("b", c.b, [4]int64{c.k, c.m, all[0], all[1]}),
		dy: k.view("dy", c.dy, [4]int64{c.n, c.m, all[0], all[1]}),
	}
	x.y, x.db = kernels.BatchMul(k.ctx, x.a, x.b), kernels.BatchMulT(k.ctx, x.a, x.dy)
	x.da, x.daT = kernels.BatchOuter(k.ctx, x.b, x.dy, c.p, c.q), kernels.BatchOuter(k.ctx, x.dy, x.b, c.p, c.q)
	run := k.graph(x.y, x.db, x.da, x.daT)
	run()
	run() // scratch memory is not clean the second time
	return x
}

func TestBatchProductsEqualTheirDefinition(t *testing.T) {
	eachSIMD(t, func(t *testing.T) {
		for _, c := range batchCases() {
			t.Run(c.String(), func(t *testing.T) {
				x := newBatch(t, c, 1)
				checkBatch(t, c, x)
				for _, threads := range []int{2, 3} {
					z := newBatch(t, c, threads)
					for i, pair := range [][2]ggml.Tensor{{x.y, z.y}, {x.db, z.db}, {x.da, z.da}, {x.daT, z.daT}} {
						if !slices.Equal(pair[0].Floats(), pair[1].Floats()) {
							t.Errorf("result %d differs between 1 and %d threads", i, threads)
						}
					}
				}
			})
		}
	})
}

func checkBatch(t *testing.T, c batchCase, x *batch) {
	a, b, dy := strided(x.a), strided(x.b), strided(x.dy)
	P, groups := c.p*c.groups2, c.groups2*c.groups3
	// Rows are numbered over all heads: row = (head·n1 + i1) of a result [n0, n1, …].
	want, scale := multiply(c.m*P*c.q*c.groups3, c.n, c.k, func(row, n, k int64) float64 {
		m, h2, h3 := row%c.m, row/c.m%P, row/c.m/P
		return a(k, n, h2/c.groups2, h3/c.groups3) * b(k, m, h2, h3)
	})
	near(t, "y", x.y.Floats(), want, scale, productTolerance)
	want, scale = multiply(c.m*P*c.q*c.groups3, c.k, c.n, func(row, k, n int64) float64 {
		m, h2, h3 := row%c.m, row/c.m%P, row/c.m/P
		return a(k, n, h2/c.groups2, h3/c.groups3) * dy(n, m, h2, h3)
	})
	near(t, "db", x.db.Floats(), want, scale, productTolerance)
	outer := func(k, n, head, i int64) float64 {
		m, h2, h3 := i%c.m, head%c.p*c.groups2+i/c.m%c.groups2, head/c.p*c.groups3+i/c.m/c.groups2
		return b(k, m, h2, h3) * dy(n, m, h2, h3)
	}
	want, scale = multiply(c.n*c.p*c.q, c.k, c.m*groups, func(row, k, i int64) float64 { return outer(k, row%c.n, row/c.n, i) })
	near(t, "da", x.da.Floats(), want, scale, productTolerance)
	want, scale = multiply(c.k*c.p*c.q, c.n, c.m*groups, func(row, n, i int64) float64 { return outer(row%c.k, n, row/c.k, i) })
	near(t, "da transposed", x.daT.Floats(), want, scale, productTolerance)
}

func TestBatchMulOnWrongOperandsPanics(t *testing.T) {
	k := newBench(t, 64, 1)
	plain, half := k.leaf("plain", ggml.F32, 8, 6, 4), k.leaf("half", ggml.F16, 8, 6, 4)
	sparse := k.ctx.Permute(k.leaf("sparse", ggml.F32, 4, 8, 6), [4]int{2, 0, 1, 3})
	tests := map[string]func(){
		"a is not F32":              func() { kernels.BatchMul(k.ctx, half, plain) },
		"a has no contiguous side":  func() { kernels.BatchMul(k.ctx, sparse, sparse) },
		"b has other steps":         func() { kernels.BatchMul(k.ctx, plain, k.leaf("b", ggml.F32, 7, 6, 4)) },
		"b's heads are no multiple": func() { kernels.BatchMul(k.ctx, plain, k.leaf("b", ggml.F32, 8, 6, 6)) },
		"dy has other steps":        func() { kernels.BatchMulT(k.ctx, plain, k.leaf("dy", ggml.F32, 8, 6, 4)) },
		"dy has other rows":         func() { kernels.BatchOuter(k.ctx, plain, k.leaf("dy", ggml.F32, 8, 5, 4), 4, 1) },
		"heads do not divide":       func() { kernels.BatchOuter(k.ctx, plain, plain, 3, 1) },
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
