package kernels_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// recurrentTolerance bounds float32 sums over a head's width and the tokens that a state remembers, against the largest
// element of the result.
const recurrentTolerance = 1e-5

// field is a float64 copy of a tensor, by index.
type field struct {
	ne [4]int64
	v  []float64
}

func newField(ne [4]int64) field { return field{ne, make([]float64, ne[0]*ne[1]*ne[2]*ne[3])} }

func fieldOf(t ggml.Tensor) field {
	f, read := newField(t.NE()), strided(t)
	for i := range f.v {
		f.v[i] = read(f.index(int64(i)))
	}
	return f
}

func (f field) index(i int64) (i0, i1, i2, i3 int64) {
	return i % f.ne[0], i / f.ne[0] % f.ne[1], i / (f.ne[0] * f.ne[1]) % f.ne[2], i / (f.ne[0] * f.ne[1] * f.ne[2])
}

func (f field) at(i0, i1, i2, i3 int64) *float64 {
	return &f.v[((i3*f.ne[2]+i2)*f.ne[1]+i1)*f.ne[0]+i0]
}

// slopeOf is the derivative of loss by f.v[i], by central differences in float64.
func (f field) slopeOf(i int, loss func() float64) float64 {
	const step = 1e-5
	x := f.v[i]
	f.v[i] = x + step
	up := loss()
	f.v[i] = x - step
	down := loss()
	f.v[i] = x
	return (up - down) / (2 * step)
}

// slopes are those of some thirty elements, by their places.
func (f field) slopes(loss func() float64) map[int]float64 {
	all := map[int]float64{}
	for i := 0; i < len(f.v); i += 1 + len(f.v)/30 {
		all[i] = f.slopeOf(i, loss)
	}
	return all
}

// slopesNear compares a gradient with slopes.
func slopesNear(t *testing.T, what string, got ggml.Tensor, want map[int]float64) {
	t.Helper()
	have, largest := fieldOf(got), 0.0
	for _, slope := range want {
		largest = max(largest, math.Abs(slope))
	}
	for i, slope := range want {
		if !(math.Abs(have.v[i]-slope) <= recurrentTolerance*largest) {
			t.Errorf("%s: element %d of %d = %v, want %v, the largest is %v", what, i, len(have.v), have.v[i], slope, largest)
		}
	}
}

func (f field) near(t *testing.T, what string, got ggml.Tensor) {
	t.Helper()
	have, largest := fieldOf(got), 0.0
	for _, x := range f.v {
		largest = max(largest, math.Abs(x))
	}
	for i, want := range f.v {
		if !(math.Abs(have.v[i]-want) <= recurrentTolerance*largest) {
			t.Errorf("%s: element %d of %d = %v, want %v, the largest is %v", what, i, len(f.v), have.v[i], want, largest)
			return
		}
	}
}

func dotOf(a, b field) (sum float64) {
	for i := range a.v {
		sum += a.v[i] * b.v[i]
	}
	return sum
}

// deltaCase is q and k [n, heads, tokens, seqs] with v [n, groups·heads, tokens, seqs]; the documents of a sequence have
// document tokens each, 0 for one document.
type deltaCase struct {
	n, heads, groups, tokens, seqs, document int64
	byColumn                                 bool
}

func (c deltaCase) String() string {
	return fmt.Sprintf("n%d_%dx%d_t%d_s%d_doc%d_columns=%v", c.n, c.heads, c.groups, c.tokens, c.seqs, c.document, c.byColumn)
}

func positionOf(t, document int64) int32 {
	if document == 0 {
		return int32(t)
	}
	return int32(t % document)
}

// positions are an input of the places of the tokens in their documents.
func (k *bench) positions(tokens, seqs, document int64) ggml.Tensor {
	pos := k.ctx.NewTensor(ggml.I32, tokens*seqs).SetInput().SetOutput()
	k.home = append(k.home, func() {
		for i := range pos.Ints() {
			pos.Ints()[i] = positionOf(int64(i)%tokens, document)
		}
	})
	return pos
}

// rule computes the gated delta rule as it is written down, token by token.
func (c deltaCase) rule(q, k, v, g, beta field) field {
	y := newField(v.ne)
	state := make([]float64, c.n*c.n) // [column of k][row of v]
	for s := range c.seqs {
		for h := range c.heads * c.groups {
			from := h % c.heads
			for t := range c.tokens {
				if positionOf(t, c.document) == 0 {
					clear(state)
				}
				for i := range c.n {
					decay := math.Exp(*g.at(i%g.ne[0], h, t, s))
					for j := range c.n {
						state[i*c.n+j] *= decay
					}
				}
				for j := range c.n {
					d := *v.at(j, h, t, s)
					for i := range c.n {
						d -= state[i*c.n+j] * *k.at(i, from, t, s)
					}
					for i := range c.n {
						state[i*c.n+j] += *beta.at(0, h, t, s) * d * *k.at(i, from, t, s)
						*y.at(j, h, t, s) += state[i*c.n+j] * *q.at(i, from, t, s) / math.Sqrt(float64(c.n))
					}
				}
			}
		}
	}
	return y
}

type deltaRun struct {
	operands  []ggml.Tensor // q, k, v, g, beta
	dy, y     ggml.Tensor
	gradients kernels.DeltaNetGrads
}

func newDelta(t *testing.T, c deltaCase, threads int) *deltaRun {
	t.Helper()
	b := newBench(t, 64, threads)
	all, gate := c.heads*c.groups, int64(1)
	if c.byColumn {
		gate = c.n
	}
	// q, k and v are parts of one row in a model; keys have about length 1.
	mixed := b.leafOf("q, k, v", ggml.F32, func() float64 { return b.rng.NormFloat64() / math.Sqrt(float64(c.n)) }, c.n*(2*c.heads+all), c.tokens, c.seqs)
	view := func(heads, offset int64) ggml.Tensor {
		nb := mixed.NB()
		return b.ctx.View(mixed, [4]int64{c.n, heads, c.tokens, c.seqs}, [4]int64{4, 4 * c.n, nb[1], nb[2]}, 4*c.n*offset)
	}
	r := &deltaRun{operands: []ggml.Tensor{view(c.heads, 0), view(c.heads, c.heads), view(all, 2*c.heads),
		b.leafOf("g", ggml.F32, func() float64 { return -b.rng.Float64() / 2 }, gate, all, c.tokens, c.seqs),
		b.leafOf("beta", ggml.F32, b.rng.Float64, 1, all, c.tokens, c.seqs)}}
	r.dy = b.leaf("dy", ggml.F32, c.n, all, c.tokens, c.seqs)
	pos, o := b.positions(c.tokens, c.seqs, c.document), r.operands
	r.y = kernels.DeltaNet(b.ctx, o[0], o[1], o[2], o[3], o[4], pos)
	r.gradients = kernels.DeltaNetBack(b.ctx, o[0], o[1], o[2], o[3], o[4], pos, r.dy)
	r.gradients.Q.ViewSrc().SetOutput()
	run := b.graph(r.y, r.gradients.Q, r.gradients.K, r.gradients.V, r.gradients.G, r.gradients.Beta)
	run()
	run() // scratch memory is not clean the second time
	return r
}

func TestDeltaNetEqualsItsDefinition(t *testing.T) {
	for _, c := range []deltaCase{
		{1, 1, 1, 1, 1, 0, false}, {4, 1, 1, 3, 1, 0, false}, {16, 2, 2, 9, 2, 0, false}, {16, 2, 3, 12, 2, 5, true},
		{20, 1, 2, 17, 1, 0, true}, {33, 2, 1, 10, 2, 4, false}, {48, 1, 1, 37, 1, 23, false}, {128, 1, 1, 6, 1, 0, false},
		{8, 1, 2, 101, 1, 1, false},
	} {
		var y field
		var slopes []map[int]float64
		eachSIMD(t, func(t *testing.T) {
			t.Run(c.String(), func(t *testing.T) {
				r, other := newDelta(t, c, 1), newDelta(t, c, 3)
				if !slices.Equal(r.y.Floats(), other.y.Floats()) || !slices.Equal(r.gradients.Q.ViewSrc().Floats(), other.gradients.Q.ViewSrc().Floats()) {
					t.Error("the results differ between 1 and 3 threads")
				}
				if slopes == nil { // the operands are the same for all
					y, slopes = c.wanted(r)
				}
				y.near(t, "y", r.y)
				for i, got := range []ggml.Tensor{r.gradients.Q, r.gradients.K, r.gradients.V, r.gradients.G, r.gradients.Beta} {
					slopesNear(t, []string{"dq", "dk", "dv", "dg", "dbeta"}[i], got, slopes[i])
				}
			})
		})
	}
}

// wanted is the result in float64, and slopes of Σ dy ⊙ y by each operand.
func (c deltaCase) wanted(r *deltaRun) (y field, slopes []map[int]float64) {
	var x []field
	for _, o := range r.operands {
		x = append(x, fieldOf(o))
	}
	rule := func() field { return c.rule(x[0], x[1], x[2], x[3], x[4]) }
	dy := fieldOf(r.dy)
	for _, operand := range x {
		slopes = append(slopes, operand.slopes(func() float64 { return dotOf(rule(), dy) }))
	}
	return rule(), slopes
}

// convCase is x [channels, tokens, seqs] and w [taps, channels].
type convCase struct{ taps, channels, tokens, seqs, document int64 }

func (c convCase) rule(x, w field) field {
	y := newField(x.ne)
	for i := range y.v {
		ch, t, s, _ := y.index(int64(i))
		for m := range min(c.taps, int64(positionOf(t, c.document))+1) {
			y.v[i] += *w.at(c.taps-1-m, ch, 0, 0) * *x.at(ch, t-m, s, 0)
		}
	}
	return y
}

func TestShortConvEqualsItsDefinition(t *testing.T) {
	for _, c := range []convCase{{1, 3, 5, 1, 0}, {4, 70, 9, 2, 0}, {4, 7, 20, 2, 3}, {3, 130, 300, 1, 128}, {4, 5, 2, 3, 0}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			var bits [][]float32
			for _, threads := range []int{1, 3} {
				b := newBench(t, 32, threads)
				x, dy := b.leaf("x", ggml.F32, c.channels, c.tokens, c.seqs), b.leaf("dy", ggml.F32, c.channels, c.tokens, c.seqs)
				w, pos := b.leaf("w", ggml.F32, c.taps, c.channels), b.positions(c.tokens, c.seqs, c.document)
				y := kernels.ShortConv(b.ctx, x, w, pos)
				dx, dw := kernels.ShortConvBack(b.ctx, dy, w, pos), kernels.ShortConvWeight(b.ctx, dy, x, w, pos)
				b.graph(y, dx, dw)()
				bits = append(bits, slices.Concat(y.Floats(), dx.Floats(), dw.Floats()))
				fx, fw, fdy := fieldOf(x), fieldOf(w), fieldOf(dy)
				c.rule(fx, fw).near(t, "y", y)
				loss := func() float64 { return dotOf(c.rule(fx, fw), fdy) }
				slopesNear(t, "dx", dx, fx.slopes(loss))
				slopesNear(t, "dw", dw, fw.slopes(loss))
			}
			if !slices.Equal(bits[0], bits[1]) {
				t.Error("the results differ between 1 and 3 threads")
			}
		})
	}
}

// The states that the derivative keeps grow with the root of the length.
func TestDeltaNetBackKeepsFewStates(t *testing.T) {
	scratch := func(tokens int64) int64 {
		b := newBench(t, 32, 1)
		x := func(n, heads int64) ggml.Tensor { return b.ctx.NewTensor(ggml.F32, n, heads, tokens, 1) }
		pos := b.ctx.NewTensor(ggml.I32, tokens)
		d := kernels.DeltaNetBack(b.ctx, x(128, 16), x(128, 16), x(128, 16), x(1, 16), x(1, 16), pos, x(128, 16))
		return kernels.Scratch(d.Q.ViewSrc())
	}
	short, long := scratch(1024), scratch(4*1024)
	t.Logf("%d bytes a thread for 1,024 tokens, %d for 4,096", short, long)
	if most := short*2 + short/10; long > most {
		t.Errorf("%d bytes for four times the tokens, want at most %d", long, most)
	}
}
