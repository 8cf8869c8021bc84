package llama

import "github.com/go-skynet/go-llama.cpp/llama"

// stream is one sequence of tokens in a context's memory, with room made at its old end when the memory is full.
type stream struct {
	ctx   *llama.Context
	past  []int32 // tokens in memory
	keep  int     // tokens at the start that stay
	batch int     // tokens evaluated at once
	last  int     // the last token of the last batch, by its place in it
	moved bool    // the memory no longer holds the text from its start
}

// reset makes the memory hold nothing but what it has in common with tokens, at its start.
func (s *stream) reset(tokens []int32) {
	n := 0
	for n < len(s.past) && n < len(tokens) && s.past[n] == tokens[n] {
		n++
	}
	s.cut(n)
}

// cut forgets the tokens from position n on: all of them where the model cannot forget a part.
func (s *stream) cut(n int) {
	if n == 0 || n < len(s.past) && !s.ctx.RemoveTokens(0, n, -1) {
		s.ctx.ClearMemory()
		n = 0
	}
	s.past = s.past[:n:n]
}

// eval appends tokens. The logits of the last one can be read afterwards, with logits.
func (s *stream) eval(tokens []int32) error {
	for len(tokens) > 0 {
		n := min(len(tokens), s.batch)
		if err := s.decode(llama.Batch{Tokens: tokens[:n]}); err != nil {
			return err
		}
		tokens = tokens[n:]
	}
	return nil
}

// decode appends the tokens of b.
func (s *stream) decode(b llama.Batch) error {
	if err := s.makeRoom(len(b.Tokens)); err != nil {
		return err
	}
	if err := s.ctx.Decode(b); err != nil {
		return err
	}
	s.past, s.last = append(s.past, b.Tokens...), len(b.Tokens)-1
	return nil
}

// logits returns the row after the last token of the last batch of eval.
func (s *stream) logits() []float32 { return s.ctx.Logits(s.last) }

// makeRoom drops the older half of what may be dropped until n more tokens fit.
func (s *stream) makeRoom(n int) error {
	size := s.ctx.NCtxSeq()
	for len(s.past)+n > size {
		keep := min(s.keep, size/2)
		drop := max((len(s.past)-keep)/2, 1)
		if len(s.past) <= keep {
			return errorf("evaluate", "%d tokens at once, the context has %d", n, size)
		}
		if err := s.drop(keep, drop); err != nil {
			return err
		}
		s.moved = true
	}
	return nil
}

// drop forgets n tokens after the first keep ones and moves the rest up, computing it anew where the memory cannot move.
func (s *stream) drop(keep, n int) error {
	rest := append([]int32(nil), s.past[keep+n:]...)
	if s.ctx.CanShift() && s.ctx.RemoveTokens(0, keep, keep+n) {
		s.ctx.ShiftTokens(0, keep+n, -1, -n)
		s.past = append(s.past[:keep:keep], rest...)
		return nil
	}
	kept := append([]int32(nil), s.past[:keep]...)
	s.cut(keep)
	return s.eval(append(kept[len(s.past):], rest...))
}
