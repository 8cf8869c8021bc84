package eval

import (
	"testing"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// For the tests in package eval_test.
const MaxSequences = maxSequences

// LimitExact sets the most bytes of an exact form that Attach makes.
func LimitExact(e *Evaluator, bytes int64) { e.exact = bytes }

// Streamed returns what a stream of pieces gives out, piece by piece, until one of the stops.
func Streamed(pieces, stops []string) (out []string, stopped bool) {
	t := textStream{emit: func(s string) { out = append(out, s) }, stops: stops}
	for _, p := range pieces {
		if stopped = t.add(p); stopped {
			break
		}
	}
	t.flush()
	return out, stopped
}

// GreedyInOne continues tokens that llama.cpp gets in one batch.
func GreedyInOne(t *testing.T, m *llama.Model, tokens []int32, n int) (text string) {
	t.Helper()
	ctx, err := llama.NewContext(m, llama.ContextParams{NCtx: 2048, NBatch: 2048, NUBatch: maxUBatch, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	for range n {
		if err := ctx.Decode(llama.Batch{Tokens: tokens}); err != nil {
			t.Fatal(err)
		}
		best := int32(0)
		logits := ctx.Logits(len(tokens) - 1)
		for id, v := range logits {
			if v > logits[best] {
				best = int32(id)
			}
		}
		text += m.Vocab().Piece(best, false)
		tokens = []int32{best}
	}
	return text
}
