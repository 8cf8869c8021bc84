package llama

import (
	"math"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// SpeculativeSampling predicts as Predict does, faster where ll, a smaller model with the same vocabulary, guesses well what
// l would say: ll proposes SetNDraft tokens, l computes all of them at once and keeps those that it would have chosen
// itself. The text is the one of Predict, but for the rounding of a batch's size.
func (l *LLama) SpeculativeSampling(ll *LLama, text string, opts ...PredictOption) (string, error) {
	po := NewPredictOptions(opts...)
	switch {
	case ll == nil || ll.ctx == nil:
		return "", errFreed
	case ll == l:
		return "", errorf("speculative sampling", "the draft model has to be loaded on its own")
	}
	if err := l.begin(po); err != nil {
		return "", err
	}
	if err := ll.begin(po); err != nil {
		return "", err
	}
	if got, want := ll.model.Vocab().NTokens(), l.model.Vocab().NTokens(); got != want {
		return "", errorf("speculative sampling", "the draft model has %d tokens in its vocabulary, want %d", got, want)
	}
	defer l.callbackFor(po)()
	g, err := l.newGeneration(text, po)
	if err != nil {
		return "", err
	}
	defer g.close()
	d := newDraft(ll, po)
	defer d.close()
	if err := g.runWith(d); err != nil {
		return "", err
	}
	return g.result(), nil
}

// draft is the smaller model's side.
type draft struct {
	l *LLama
	s *stream
	n int // tokens to propose at a time
}

func newDraft(l *LLama, po PredictOptions) *draft {
	d := &draft{l: l, s: l.stream(po), n: max(po.NDraft, 0)}
	if l.model.IsRecurrent() || l.model.IsHybrid() {
		d.n = 0 // a proposal that is refused could not be forgotten
	}
	l.restored = false
	return d
}

func (d *draft) close() { d.l.past = d.s.past }

// propose guesses what follows text: greedily, and only as long as the guess is at least twice as likely as the next best
// one, since a refused token costs both models.
func (d *draft) propose(text []int32, n int) ([]int32, error) {
	n = min(n, d.n)
	if n <= 0 || len(text)+n > d.s.ctx.NCtxSeq() {
		return nil, nil
	}
	d.s.reset(text[:len(text)-1])
	if err := d.s.eval(text[len(d.s.past):]); err != nil {
		return nil, err
	}
	var guess []int32
	for {
		id, sure := likeliest(d.s.logits())
		if !sure || d.l.model.Vocab().IsEOG(id) {
			return guess, nil
		}
		if guess = append(guess, id); len(guess) == n {
			return guess, nil
		}
		if err := d.s.eval([]int32{id}); err != nil {
			return nil, err
		}
	}
}

// likeliest returns the token with the largest logit; sure tells whether it is at least twice as likely as any other.
func likeliest(logits []float32) (id int32, sure bool) {
	first, second := float32(math.Inf(-1)), float32(math.Inf(-1))
	for i, x := range logits {
		switch {
		case x > first:
			first, second, id = x, first, int32(i)
		case x > second:
			second = x
		}
	}
	return id, first-second >= math.Ln2
}

// runWith does what run does, with proposals: every round evaluates the last token and the proposal behind it, and
// keeps as much of it as the sampler chooses too.
func (g *generation) runWith(d *draft) error {
	if g.l.model.IsRecurrent() || g.l.model.IsHybrid() || g.guidance != nil {
		return g.run()
	}
	id, more, err := g.next(g.s.logits())
	for err == nil && more {
		id, more, err = g.round(d, id)
	}
	return err
}

// round evaluates id, which is chosen already, and what d proposes behind it. What comes out is the first token that d did
// not propose.
func (g *generation) round(d *draft, id int32) (next int32, more bool, err error) {
	room := min(g.s.batch, g.s.ctx.NCtxSeq()-len(g.s.past)) - 1
	if g.left > 0 {
		room = min(room, g.left-1) // the token after the proposal is predicted without it
	}
	guess, err := d.propose(append(g.s.past[:len(g.s.past):len(g.s.past)], id), room)
	if err != nil {
		return 0, false, err
	}
	b := llama.Batch{Tokens: append([]int32{id}, guess...), Output: make([]bool, 1+len(guess))}
	for i := range b.Output {
		b.Output[i] = true
	}
	if err := g.s.decode(b); err != nil {
		return 0, false, err
	}
	kept := 0
	for {
		next, more, err = g.next(g.s.ctx.Logits(kept))
		if err != nil || !more || kept == len(guess) || next != guess[kept] {
			break
		}
		kept++
	}
	g.s.cut(len(g.s.past) - len(guess) + kept)
	return next, more, err
}

// next chooses and emits the token after logits.
func (g *generation) next(logits []float32) (id int32, more bool, err error) {
	if g.left == 0 {
		return 0, false, nil
	}
	if id, err = g.sampler.Choose(logits); err != nil {
		return 0, false, err
	}
	more, err = g.emit(id)
	return id, more, err
}
