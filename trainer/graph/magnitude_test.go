package graph

import (
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/kernels"
)

// apartTolerance is for gradients by kernels that add in another order, with rounding carried through a few layers.
const apartTolerance = 1e-4

// Gradients of the magnitude that are apart are those of the kernel for all four; without them no product of W's size is
// left, nothing is added to their sums, and all others stay the same bytes, at any level of recomputation.
func TestMagnitudeIsLeftOut(t *testing.T) {
	path := testmodel.Path(t, tinySpec("llama"))
	m := loadModel(t, path)
	shape := Shape{Ctx: 16, Seqs: 2}
	ws := windows(shape, m.Vocab().NTokens())
	weights := allLinear(t, path, adapter.MethodDual, 2)
	disturb(weights)
	stepped := func(e *Engine) (grads [][]float32) {
		e.Reset()
		if _, err := e.Step(ws, 0.1); err != nil {
			t.Fatal(err)
		}
		for _, g := range e.Gradients() {
			grads = append(grads, slices.Clone(g.Data))
		}
		return grads
	}
	want := stepped(newEngine(t, m, weights, Options{Shape: shape}))
	for _, o := range []Options{{}, {reference: true}, {recompute: recomputeAll}} {
		o.Shape, o.MagnitudeApart = shape, true
		e := newEngine(t, m, weights, o)
		all := stepped(e)
		e.SetMagnitude(false)
		some := stepped(e)
		e.SetMagnitude(true)
		again := stepped(e)
		for i, g := range e.Gradients() {
			magnitude := strings.HasSuffix(g.Name, ".dual_a") || strings.HasSuffix(g.Name, ".dual_b")
			if d := near.Share(all[i], want[i]); !(d <= apartTolerance) {
				t.Errorf("%+v: %s: %v of the largest from that of one kernel", o, g.Name, d)
			}
			left := all[i]
			if magnitude {
				left = make([]float32, len(all[i]))
			}
			if !slices.Equal(some[i], left) || !slices.Equal(again[i], all[i]) {
				t.Errorf("%+v: %s: without the magnitude or after that not what it was", o, g.Name)
			}
		}
		if products := e.products(); !o.reference && (products == 0 || products != e.leftOut()) {
			t.Errorf("%+v: %d of %d products of W's size are left out", o, e.leftOut(), products)
		}
	}
}

// products counts the nodes of the backward pass that form dL/dW, and leftOut those of them that only the magnitude needs.
func (e *Engine) products() (n int) {
	for i := e.forwardLen; i < e.whole.Len(); i++ {
		if kernels.Name(e.whole.Node(i)) == "THIN_GRADS" {
			n++
		}
	}
	return n
}

func (e *Engine) leftOut() (n int) {
	for _, node := range e.magnitude {
		if kernels.Name(node) == "THIN_GRADS" {
			n++
		}
	}
	return n
}
