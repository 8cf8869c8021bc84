package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// LogLikelihoods returns for each question the log-likelihood of its choices behind its prompt, in nats, with the adapters
// that are attached: the sum over a choice's tokens of the logarithm of the probability of each. What the choices of a
// question begin with alike, the prompt above all, is decoded once, and short questions share a batch. progress, if not nil,
// is told how many questions are done. No question may be longer than the evaluator's context.
func (e *Evaluator) LogLikelihoods(ctx context.Context, questions []data.Question, progress func(done int)) ([][]float64, error) {
	if !e.ctx.HasMemory() {
		return nil, fmt.Errorf("eval: model %q reads in both directions: it gives a choice no likelihood", e.model.Path())
	}
	all := make([][]float64, len(questions))
	g := new(choiceGroup)
	for i, q := range questions {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		all[i] = make([]float64, len(q.Answers))
		for _, b := range branches(q, all[i], e.ctx.NBatch()) {
			if g.sequences+b.sequences() > maxSequences || g.cells+b.cells() > e.ctx.NBatch() {
				if err := e.score(g); err != nil {
					return nil, err
				}
				g = new(choiceGroup)
			}
			g.add(b)
		}
		if progress != nil && i+1 < len(questions) {
			progress(i + 1)
		}
	}
	if err := e.score(g); err != nil {
		return nil, err
	}
	if progress != nil {
		progress(len(questions))
	}
	return all, checkNumbers(questions, all)
}

// checkNumbers refuses what a broken model answers.
func checkNumbers(questions []data.Question, all [][]float64) error {
	for i, sums := range all {
		if slices.ContainsFunc(sums, math.IsNaN) {
			return fmt.Errorf("eval: the question in line %d: the log-likelihood of a choice is no number", questions[i].Line)
		}
	}
	return nil
}

// branch is choices of one question behind the tokens that they begin with alike. Of every choice all tokens but the last
// are decoded, behind which nothing is asked for.
type branch struct {
	shared  []int32
	answers []data.Answer
	sums    []float64 // [answers], where their log-likelihoods are added up
}

// tail is what of a choice is decoded behind the shared tokens.
func (b *branch) tail(i int) []int32 {
	tokens := b.answers[i].Tokens
	return tokens[len(b.shared) : len(tokens)-1]
}

// cells is how many tokens of memory the branch takes.
func (b *branch) cells() int {
	n := len(b.shared)
	for i := range b.answers {
		n += len(b.tail(i))
	}
	return n
}

// sequences is how many it takes: the first tail goes on in that of the shared tokens.
func (b *branch) sequences() int {
	n := 0
	for i := range b.answers {
		n += min(len(b.tail(i)), 1)
	}
	return max(n, 1)
}

// branches divides a question into as few parts as fit into the memory of so many cells. One choice always does.
func branches(q data.Question, sums []float64, cells int) []*branch {
	shared := sharedTokens(q.Answers)
	var all []*branch
	from := 0
	part := func(to int) *branch { return &branch{shared, q.Answers[from:to], sums[from:to]} }
	for i := range q.Answers {
		if b := part(i + 1); i > from && (b.cells() > cells || b.sequences() > maxSequences) {
			all = append(all, part(i))
			from = i
		}
	}
	return append(all, part(len(q.Answers)))
}

// sharedTokens are those that all answers begin with, without the last of any.
func sharedTokens(answers []data.Answer) []int32 {
	shared := answers[0].Tokens
	for _, a := range answers {
		n := 0
		for n < min(len(shared), len(a.Tokens)-1) && shared[n] == a.Tokens[n] {
			n++
		}
		shared = shared[:n]
	}
	return shared
}

// choiceGroup is branches that are decoded together: their shared tokens first, then, in copies of the sequences that these
// are in, their tails.
type choiceGroup struct {
	cells, sequences int
	shared, tails    choiceBatch
	copies           [][2]int32 // from a sequence to another
}

func (g *choiceGroup) add(b *branch) {
	first := int32(g.sequences)
	from := g.shared.add(b.shared, 0, first)
	for i, a := range b.answers {
		g.shared.ask(a, from, 0, len(b.shared), &b.sums[i])
	}
	seq := first
	for i, a := range b.answers {
		tail := b.tail(i)
		if len(tail) == 0 {
			continue
		}
		if seq != first {
			g.copies = append(g.copies, [2]int32{first, seq})
		}
		from := g.tails.add(tail, len(b.shared), seq)
		g.tails.ask(a, from, len(b.shared), len(b.shared)+len(tail), &b.sums[i])
		seq++
	}
	g.cells += b.cells()
	g.sequences += b.sequences()
}

// choiceBatch is tokens to decode, and what is asked of the logits behind them.
type choiceBatch struct {
	llama.Batch
	asked []asked
}

// asked is a token that may follow one of the batch.
type asked struct {
	row    int   // of the batch
	target int32 // the token
	sum    *float64
}

// add appends tokens from a position on and returns the row of the first.
func (b *choiceBatch) add(tokens []int32, pos int, seq int32) (row int) {
	row = len(b.Tokens)
	for i, t := range tokens {
		b.Tokens = append(b.Tokens, t)
		b.Pos = append(b.Pos, int32(pos+i))
		b.Seq = append(b.Seq, seq)
		b.Output = append(b.Output, false)
	}
	return row
}

// ask adds to sum what positions from up to but not including to, the first of which is in the row, say of an answer.
func (b *choiceBatch) ask(a data.Answer, row, from, to int, sum *float64) {
	for pos := max(from, a.From-1); pos < to; pos++ {
		b.Output[row+pos-from] = true
		b.asked = append(b.asked, asked{row + pos - from, a.Tokens[pos+1], sum})
	}
}

// score decodes a group in an empty memory and adds up the log-likelihoods.
func (e *Evaluator) score(g *choiceGroup) error {
	e.ctx.ClearMemory()
	if err := e.answer(&g.shared); err != nil {
		return err
	}
	for _, c := range g.copies {
		if len(g.shared.Tokens) > 0 && !e.ctx.CopyTokens(c[0], c[1]) {
			return errors.New("eval: internal error: a sequence beyond the evaluator's")
		}
	}
	return e.answer(&g.tails)
}

// answer decodes a batch, in parts so that few logits are held, and adds up what is asked of it.
func (e *Evaluator) answer(b *choiceBatch) error {
	for from := 0; from < len(b.Tokens); from += maxUBatch {
		to := min(from+maxUBatch, len(b.Tokens))
		part := llama.Batch{Tokens: b.Tokens[from:to], Pos: b.Pos[from:to], Seq: b.Seq[from:to], Output: b.Output[from:to]}
		if err := e.decode(part, len(part.Tokens)); err != nil {
			return err
		}
		rows := e.logits(to - from)
		norms := make([]float64, to-from) // log Σ exp(logits)
		e.eachRow(rows, func(i int) {
			top, z := partition(rows[i])
			norms[i] = float64(top) + math.Log(z)
		})
		for _, a := range b.asked {
			if i := a.row - from; i >= 0 && i < len(rows) {
				*a.sum += float64(rows[i][a.target]) - norms[i]
			}
		}
	}
	return nil
}
