package graph

import (
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/kernels"
)

const (
	// drawnTolerance is for gradients by kernels that add in another order, with rounding carried through a few layers.
	drawnTolerance = 1e-4
	// drawnMeanTolerance is for the mean of draws draws of half of the tokens beside all tokens, as a share of the largest
	// entry: a draw takes a term twice or not at all, so the mean is off by 1/√draws = 0.05 of it; three times that.
	drawnMeanTolerance = 0.15
	draws              = 400
	// architectureTolerance is for the same as drawnTolerance where an architecture carries the rounding further: Gemma 4's
	// gradients by our kernels are up to 9e-4 of the largest from those by ggml's operations, over all tokens too.
	architectureTolerance = 2e-3
)

// Over a part of the tokens the gradients of the magnitude are those of ggml's operations over the same part, at any level of
// recomputation; another draw changes them and nothing else; their mean over many draws is the gradient over all tokens.
func TestMagnitudeOverAPartOfTheTokens(t *testing.T) {
	path := testmodel.Path(t, tinySpec("llama"))
	m := loadModel(t, path)
	shape := Shape{Ctx: 16, Seqs: 2}
	ws := windows(shape, m.Vocab().NTokens())
	weights := allLinear(t, path, adapter.MethodDual, 2)
	disturb(weights)
	stepped := func(e *Engine, draw int) (grads [][]float32) {
		e.SetDraw(draw)
		e.Reset()
		if _, err := e.Step(ws, 0.1); err != nil {
			t.Fatal(err)
		}
		for _, g := range e.Gradients() {
			grads = append(grads, slices.Clone(g.Data))
		}
		return grads
	}
	all := stepped(newEngine(t, m, weights, Options{Shape: shape, exact: true}), 1)
	e := newEngine(t, m, weights, Options{Shape: shape, MagnitudeEvery: 2, exact: true})
	first, second, again := stepped(e, 1), stepped(e, 2), stepped(e, 1)
	reference := stepped(newEngine(t, m, weights, Options{Shape: shape, MagnitudeEvery: 2, reference: true}), 1)
	recomputed := stepped(newEngine(t, m, weights, Options{Shape: shape, MagnitudeEvery: 2, exact: true, recompute: recomputeAll}), 1)
	mean := make([][]float64, len(all))
	for i := range mean {
		mean[i] = make([]float64, len(all[i]))
	}
	for n := range draws {
		for i, g := range stepped(e, n) {
			for k, v := range g {
				mean[i][k] += float64(v) / draws
			}
		}
	}
	for i, g := range e.Gradients() {
		magnitude := strings.HasSuffix(g.Name, ".dual_a") || strings.HasSuffix(g.Name, ".dual_b")
		if slices.Equal(first[i], second[i]) == magnitude {
			t.Errorf("%s: another draw changes it: %v", g.Name, !magnitude)
		}
		if !slices.Equal(first[i], again[i]) || !slices.Equal(first[i], recomputed[i]) {
			t.Errorf("%s: the same draw gives other gradients", g.Name)
		}
		if d := near.Share(first[i], reference[i]); !(d <= drawnTolerance) {
			t.Errorf("%s: %v of the largest from that of ggml's operations", g.Name, d)
		}
		want := make([]float64, len(all[i]))
		for k, v := range all[i] {
			want[k] = float64(v)
		}
		if d := near.Share(mean[i], want); !(d <= drawnMeanTolerance) {
			t.Errorf("%s: the mean over the draws is %v of the largest from that over all tokens", g.Name, d)
		}
	}
}

// byteTolerance is for gradients of x and dy that are rounded to 1/127 of the largest of their column, each by up to half a
// step, as a share of the largest entry: some hundredth was seen on every architecture.
const byteTolerance = 0.03

// Where the CPU has dot products of bytes, they change the gradients of the magnitude by a hundredth, and no other's beyond what
// another order of adding does; the same step gives the same bits at any level of recomputation.
func TestMagnitudeInBytes(t *testing.T) {
	if !kernels.HasBytes() {
		need.Skip(t, need.Processor, "this one has no dot products of bytes")
	}
	path := testmodel.Path(t, tinySpec("llama"))
	m := loadModel(t, path)
	shape := Shape{Ctx: 16, Seqs: 2}
	ws := windows(shape, m.Vocab().NTokens())
	weights := allLinear(t, path, adapter.MethodDual, 2)
	disturb(weights)
	stepped := func(o Options) (grads []Gradient) {
		o.Shape = shape
		e := newEngine(t, m, weights, o)
		if _, err := e.Step(ws, 0.1); err != nil {
			t.Fatal(err)
		}
		for _, g := range e.Gradients() {
			grads = append(grads, Gradient{g.Name, slices.Clone(g.Data)})
		}
		return grads
	}
	exact, got, recomputed := stepped(Options{exact: true}), stepped(Options{}), stepped(Options{recompute: recomputeAll})
	for i, want := range exact {
		tolerance := drawnTolerance
		magnitude := strings.HasSuffix(want.Name, ".dual_a") || strings.HasSuffix(want.Name, ".dual_b")
		if magnitude {
			tolerance = byteTolerance
		}
		if d := near.Share(got[i].Data, want.Data); !(d <= tolerance) || magnitude && d == 0 {
			t.Errorf("%s: %v of the largest from the exact one", want.Name, d)
		}
		if !slices.Equal(got[i].Data, recomputed[i].Data) {
			t.Errorf("%s: recomputing changes it", want.Name)
		}
	}
}

// One token of each stratum is drawn, each as often as another, and others in the next pass.
func TestDrawTakesEveryTokenAsOften(t *testing.T) {
	m := loadModel(t, testmodel.Path(t, tinySpec("llama")))
	shape := Shape{Ctx: 7, Seqs: 1} // strata of 2, 2 and 3 tokens
	e := newEngine(t, m, allLinear(t, testmodel.Path(t, tinySpec("llama")), adapter.MethodDual, 2), Options{Shape: shape, MagnitudeEvery: 2})
	counts := make([]int, shape.tokens())
	const times = 6000
	for range times {
		e.drawn.next(&e.bus, shape.tokens())
		for _, row := range e.drawn.rows.Ints() {
			counts[row]++
		}
	}
	for token, n := range counts {
		size := 2
		if token >= 4 {
			size = 3
		}
		if want := times / size; n < want*9/10 || n > want*11/10 { // a tenth is more than five standard deviations
			t.Errorf("token %d was drawn %d times, want about %d", token, n, want)
		}
	}
}

// Every architecture and variant has a row for each token where a product with an adapted weight is, so a drawn row is there; the
// gradients are those of ggml's operations over the same rows, and near them in 8 bits.
func TestMagnitudeOfEveryArchitecture(t *testing.T) {
	paths := map[string]string{}
	for _, arch := range testmodel.Architectures() {
		paths[arch] = testmodel.Path(t, tinySpec(arch))
	}
	for _, v := range variants() {
		paths[v.Name] = writeVariant(t, v)
	}
	for name, path := range paths {
		m := loadModel(t, path)
		shape := Shape{Ctx: 16, Seqs: 2}
		ws := windows(shape, m.Vocab().NTokens())
		weights := allLinear(t, path, adapter.MethodDual, 2)
		disturb(weights)
		stepped := func(o Options) (grads []Gradient) {
			o.Shape, o.MagnitudeEvery = shape, 3
			e := newEngine(t, m, weights, o)
			e.SetDraw(5)
			e.Reset()
			if _, err := e.Step(ws, 0.1); err != nil {
				t.Fatal(name, err)
			}
			for _, g := range e.Gradients() {
				grads = append(grads, Gradient{g.Name, slices.Clone(g.Data)})
			}
			return grads
		}
		reference := stepped(Options{reference: true})
		for i, exact := range []bool{true, false} {
			for k, g := range stepped(Options{exact: exact}) {
				if slices.Equal(g.Data, reference[k].Data) { // of weights that llama.cpp's graph does not adapt all are 0
					continue
				}
				tolerance := architectureTolerance
				if i == 1 && (strings.HasSuffix(g.Name, ".dual_a") || strings.HasSuffix(g.Name, ".dual_b")) {
					tolerance = byteTolerance
				}
				if d := near.Share(g.Data, reference[k].Data); !(d <= tolerance) {
					t.Errorf("%s: the gradient %s is %v of the largest from that of ggml's operations; exact: %v", name, g.Name, d, exact)
				}
			}
		}
	}
}
