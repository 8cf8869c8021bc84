package kernels_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// attentionTolerance bounds float32 sums of a head's width or a row of keys, against the sizes of their terms.
const attentionTolerance = 3e-6

// attentionCase is q [w, n, groups·heads, seqs] against k [w, m, heads, seqs] and v [m, u, heads, seqs].
type attentionCase struct {
	w, u, n, m, heads, groups, seqs int64
	mask                            string
}

func (c attentionCase) String() string {
	return fmt.Sprintf("w%d_u%d_n%d_m%d_%dx%d_s%d_%s", c.w, c.u, c.n, c.m, c.heads, c.groups, c.seqs, c.mask)
}

func attentionCases() []attentionCase {
	return []attentionCase{
		{1, 1, 1, 1, 1, 1, 1, "causal"}, {5, 3, 3, 3, 1, 2, 1, "causal"}, {8, 8, 17, 17, 4, 2, 2, "causal"},
		{64, 64, 57, 57, 3, 3, 1, "causal"}, {64, 64, 130, 130, 1, 7, 1, "documents"}, {33, 40, 113, 113, 2, 1, 2, "documents"},
		{16, 16, 60, 60, 2, 2, 1, "distance"}, {48, 16, 29, 65, 1, 3, 1, "open"}, {80, 80, 70, 70, 1, 1, 1, "window"},
		{12, 20, 40, 40, 2, 1, 1, "holes"}, {32, 32, 300, 300, 1, 2, 1, "causal"},
	}
}

// maskOf is what query i of a sequence sees of key j.
func (c attentionCase) maskOf(seq, i, j int64) float64 {
	hidden := math.Inf(-1)
	document := func(t int64) int64 { return t / (19 + 7*seq) }
	switch {
	case c.mask == "open":
		return 0
	case c.mask == "holes" && i == 5: // a query that sees nothing
		return hidden
	case j > i, c.mask == "documents" && document(i) != document(j), c.mask == "window" && i-j >= 16, c.mask == "holes" && j%3 == 1 && j != i:
		return hidden
	case c.mask == "distance":
		return -float64(i-j) / 8
	}
	return 0
}

// attended is a graph of the kernel and its derivative.
type attended struct{ q, k, v, dy, y, dq, dk, dv ggml.Tensor }

func newAttended(t *testing.T, c attentionCase, threads int, scale float32) *attended {
	t.Helper()
	k := newBench(t, 64, threads)
	overHeads, transposed := layouts[1], layouts[3]
	x := &attended{
		q: k.view("q", overHeads, [4]int64{c.w, c.n, c.heads * c.groups, c.seqs}),
		k: k.view("k", overHeads, [4]int64{c.w, c.m, c.heads, c.seqs}),
		v: k.view("v", transposed, [4]int64{c.m, c.u, c.heads, c.seqs}),
	}
	at := int64(0)
	mask := k.leafOf("mask", ggml.F32, func() float64 {
		i := at
		at++
		return c.maskOf(i/(c.m*c.n), i/c.m%c.n, i%c.m)
	}, c.m, c.n, 1, c.seqs)
	x.dy = k.view("dy", layouts[0], [4]int64{c.u, c.n, c.heads * c.groups, c.seqs})
	node := kernels.Attention(k.ctx, x.q, x.k, x.v, mask, kernels.MaskSpans(k.ctx, mask), scale)
	node.SetOutput()
	x.y = kernels.AttentionResult(k.ctx, node)
	x.dq, x.dk, x.dv = kernels.AttentionBack(k.ctx, node, x.dy)
	x.dq.ViewSrc().SetOutput()
	x.dk.ViewSrc().SetOutput()
	run := k.graph(x.y, x.dq, x.dk, x.dv)
	run()
	run() // scratch memory is not clean the second time
	return x
}

func TestAttentionEqualsItsDefinition(t *testing.T) {
	const scale = 0.3
	eachSIMD(t, func(t *testing.T) {
		for _, c := range attentionCases() {
			t.Run(c.String(), func(t *testing.T) {
				x := newAttended(t, c, 1, scale)
				c.check(t, x, scale)
				z := newAttended(t, c, 3, scale)
				for i, pair := range [][2]ggml.Tensor{{x.y, z.y}, {x.dq, z.dq}, {x.dk, z.dk}} {
					if !slices.Equal(pair[0].ViewSrc().Floats(), pair[1].ViewSrc().Floats()) {
						t.Errorf("result %d differs between 1 and 3 threads", i)
					}
				}
			})
		}
	})
}

// grid is a float64 array with the shape of a tensor, and the size of the terms of each of its sums.
type grid struct {
	ne         [4]int64
	sum, terms []float64
}

func newGrid(ne [4]int64) *grid {
	n := ne[0] * ne[1] * ne[2] * ne[3]
	return &grid{ne, make([]float64, n), make([]float64, n)}
}

func (g *grid) add(x, size float64, i ...int64) {
	at := ((i[3]*g.ne[2]+i[2])*g.ne[1]+i[1])*g.ne[0] + i[0]
	g.sum[at] += x
	g.terms[at] += math.Abs(size)
}

// near compares a view with it.
func (g *grid) near(t *testing.T, what string, got ggml.Tensor) {
	t.Helper()
	if got.NE() != g.ne {
		t.Fatalf("%s: shape %v, want %v", what, got.NE(), g.ne)
	}
	read, flat := strided(got), make([]float32, 0, len(g.sum))
	for i := range int64(len(g.sum)) {
		flat = append(flat, float32(read(i%g.ne[0], i/g.ne[0]%g.ne[1], i/(g.ne[0]*g.ne[1])%g.ne[2], i/(g.ne[0]*g.ne[1]*g.ne[2]))))
	}
	near(t, what, flat, g.sum, g.terms, attentionTolerance)
}

// check computes attention and its derivative in float64, one query at a time.
func (c attentionCase) check(t *testing.T, x *attended, scale float64) {
	q, k, v, dy := strided(x.q), strided(x.k), strided(x.v), strided(x.dy)
	y, dq := newGrid(x.y.NE()), newGrid(x.dq.NE())
	dk, dv := newGrid(x.dk.NE()), newGrid(x.dv.NE())
	p, dp, logit := make([]float64, c.m), make([]float64, c.m), make([]float64, c.m)
	for s := range c.seqs {
		for h := range c.heads * c.groups {
			for i := range c.n {
				c.query(q, k, v, dy, s, h, i, scale, p, dp, logit)
				var dot, sizes float64
				for j := range c.m {
					dot += p[j] * dp[j]
					sizes += p[j] * math.Abs(dp[j])
				}
				for j := range c.m {
					blur := 1 + logit[j] // rounding of a logit scales its exponential
					for e := range c.u {
						y.add(p[j]*v(j, e, h/c.groups, s), p[j]*v(j, e, h/c.groups, s)*blur, e, h, i, s)
						dv.add(p[j]*dy(e, i, h, s), p[j]*dy(e, i, h, s)*blur, j, e, h/c.groups, s)
					}
					ds, size := p[j]*(dp[j]-dot)*scale, p[j]*(math.Abs(dp[j])+sizes+float64(c.u))*scale*blur
					for e := range c.w {
						dq.add(ds*k(e, j, h/c.groups, s), size*k(e, j, h/c.groups, s), e, i, h, s)
						dk.add(ds*q(e, i, h, s), size*q(e, i, h, s), e, j, h/c.groups, s)
					}
				}
			}
		}
	}
	y.near(t, "y", x.y)
	dq.near(t, "dq", x.dq)
	dk.near(t, "dk", x.dk)
	dv.near(t, "dv", x.dv)
}

// query fills the probabilities of one query, their gradients and the sizes of the logits' terms.
func (c attentionCase) query(q, k, v, dy func(i0, i1, i2, i3 int64) float64, s, h, i int64, scale float64, p, dp, logit []float64) {
	most := math.Inf(-1)
	for j := range c.m {
		p[j], dp[j], logit[j] = c.maskOf(s, i, j), 0, 0
		for e := range c.w {
			x := scale * q(e, i, h, s) * k(e, j, h/c.groups, s)
			p[j] += x
			logit[j] += math.Abs(x)
		}
		most = max(most, p[j])
		for e := range c.u {
			dp[j] += v(j, e, h/c.groups, s) * dy(e, i, h, s)
		}
	}
	var sum float64
	for j := range p {
		if p[j] = math.Exp(p[j] - most); math.IsInf(most, -1) {
			p[j] = 0
		}
		sum += p[j]
	}
	for j := range p {
		p[j] /= max(sum, math.SmallestNonzeroFloat64)
	}
}
