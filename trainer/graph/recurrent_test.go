package graph

import (
	"slices"
	"testing"

	"finetune/adapter"
	"finetune/internal/near"
	"finetune/trainer/data"
)

// packedTolerance is for sums over the tokens in another order.
const packedTolerance = 2e-5

// apart returns each document of a window in a window of its own, which padding fills.
func apart(w data.Window) (all []data.Window) {
	for _, doc := range w.Documents() {
		alone := data.Blank(len(w.Tokens))
		n := copy(alone.Tokens, doc.Tokens)
		copy(alone.Targets, doc.Targets)
		copy(alone.LossMask, doc.LossMask)
		for i := range alone.Pos {
			if alone.Pos[i] = int32(i); i >= n {
				alone.Pos[i], alone.Doc[i] = int32(i-n), 1
			}
		}
		all = append(all, alone)
	}
	return all
}

// A document that shares a window has the loss and the gradients that it has alone: neither attention, nor a state, nor a
// convolution passes its end.
func TestPackedDocumentsAreAlone(t *testing.T) {
	for _, name := range []string{"qwen35", "lfm2", "gemma3"} {
		t.Run(name, func(t *testing.T) {
			path := variantNamed(t, name)
			m := loadModel(t, path)
			weights := allLinear(t, path, adapter.MethodLoRA, 4)
			disturb(weights)
			shape := Shape{Ctx: 24, Seqs: 1}
			packed := windows(shape, m.Vocab().NTokens())
			separate := apart(packed[0])
			if len(separate) != 2 || separate[0].Doc[shape.Ctx-1] != 1 {
				t.Fatalf("%d documents, want 2", len(separate))
			}
			e := newEngine(t, m, weights, Options{Shape: shape})
			step := func(all []data.Window) (loss float64) {
				e.Reset()
				for _, w := range all {
					l, err := e.Step([]data.Window{w}, 1)
					if err != nil {
						t.Fatal(err)
					}
					loss += l
				}
				return loss
			}
			want := step(separate)
			alone := gradients(e)
			got := step(packed)
			if !near.Within(got, want, packedTolerance) {
				t.Errorf("the loss of both documents in one window is %v, of each alone %v", got, want)
			}
			t.Logf("losses %v and %v", got, want)
			for i, g := range gradients(e) {
				if d := near.Share(g, alone[i]); d > packedTolerance {
					t.Errorf("%s: the gradient differs by %v of its largest element", e.params[i].name, d)
				}
			}
			// The check above means something: without its boundary the second document has another loss.
			joined := packed[0]
			joined.Doc, joined.Pos = make([]int32, shape.Ctx), slices.Clone(separate[0].Pos)
			for i := range joined.Pos {
				joined.Pos[i] = int32(i)
			}
			if loss := step([]data.Window{joined}); near.Within(loss, want, 5*packedTolerance) {
				t.Errorf("the loss without a boundary is %v, with it %v", loss, want)
			}
		})
	}
}

// Sequences may be shorter than the convolution, down to one token.
func TestShortSequencesOfRecurrentModels(t *testing.T) {
	for _, name := range []string{"qwen35", "lfm2"} {
		m := loadModel(t, variantNamed(t, name))
		for _, shape := range []Shape{{Ctx: 1, Seqs: 1}, {Ctx: 1, Seqs: 3}, {Ctx: 2, Seqs: 2}, {Ctx: 3, Seqs: 1}} {
			ws := windows(shape, m.Vocab().NTokens())
			for i := range ws { // one document
				for at := range ws[i].Doc {
					ws[i].Doc[at], ws[i].Pos[at] = 0, int32(at)
				}
			}
			got, err := newEngine(t, m, nil, Options{Shape: shape}).logits(ws)
			if err != nil {
				t.Fatalf("%s, %v: %v", name, shape, err)
			}
			if d := near.Share(got, decode(t, m, shape, ws)); d > logitsTolerance {
				t.Errorf("%s, %v: logits differ by %v of the largest", name, shape, d)
			}
		}
	}
}
