package eval

import (
	"context"
	"fmt"

	"finetune/classify"
	"finetune/internal/machine"
	"finetune/model/native"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// NewReader makes an evaluator for States, of texts of up to nCtx tokens. The model stays the caller's. threads 0 is one per
// physical core.
func NewReader(model *llama.Model, nCtx, threads int) (*Evaluator, error) {
	if err := native.CheckContext(model, nCtx); err != nil {
		return nil, err
	}
	threads = machine.ThreadCount(threads)
	tokens := max(nCtx, maxUBatch)
	ctx, err := llama.NewContext(model, llama.ContextParams{NCtx: tokens, NBatch: tokens, NUBatch: tokens, NSeqMax: maxSequences, KVUnified: true,
		Threads: threads, FlashAttn: llama.FlashAttnOff, Embeddings: true, NoPooling: true})
	if err != nil {
		return nil, err
	}
	return &Evaluator{model: model, ctx: ctx, nCtx: nCtx, threads: threads, tuner: machine.NewThreadTuner(threads), exact: machine.Memory() / 2}, nil
}

// States hands the pooled state [n_embd] of each text to do, in order; it may be kept only until do returns. A text without
// tokens, or with more than the evaluator was made for, is an error.
func (e *Evaluator) States(ctx context.Context, texts [][]int32, pooling classify.Pooling, do func(i int, state []float32) error) error {
	for from := 0; from < len(texts); {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, ends := llama.Batch{}, []int(nil)
		for i := from; i < len(texts) && len(ends) < maxSequences; i++ {
			n := len(texts[i])
			if n == 0 || n > e.nCtx {
				return fmt.Errorf("eval: text %d has %d tokens, want 1 to %d", i+1, n, e.nCtx)
			}
			if len(b.Tokens)+n > e.ctx.NBatch() || len(ends) > 0 && len(b.Tokens)+n > maxUBatch {
				break
			}
			for k, id := range texts[i] {
				b.Tokens, b.Pos, b.Seq = append(b.Tokens, id), append(b.Pos, int32(k)), append(b.Seq, int32(len(ends)))
				b.Output = append(b.Output, true)
			}
			ends = append(ends, len(b.Tokens))
		}
		e.ctx.ClearMemory()
		if err := e.decode(b, len(b.Tokens)); err != nil {
			return err
		}
		state := make([]float32, e.model.NEmbd())
		start := 0
		for k, end := range ends {
			e.pool(state, start, end, pooling)
			if err := do(from+k, state); err != nil {
				return err
			}
			start = end
		}
		from += len(ends)
	}
	return nil
}

// pool writes the state of the tokens from start up to end of the last batch.
func (e *Evaluator) pool(state []float32, start, end int, pooling classify.Pooling) {
	switch pooling {
	case classify.PoolFirst:
		copy(state, e.ctx.Embedding(start))
		return
	case classify.PoolLast:
		copy(state, e.ctx.Embedding(end-1))
		return
	}
	clear(state)
	for i := start; i < end; i++ {
		for k, v := range e.ctx.Embedding(i) {
			state[k] += v
		}
	}
	for k := range state {
		state[k] /= float32(end - start)
	}
}

// Scores returns the scores of a classifier [n_classes], or of a reranker [1], for each text. progress, if not nil, gets the number of
// texts that are done.
func (e *Evaluator) Scores(ctx context.Context, texts [][]int32, h *classify.Head, progress func(done int)) ([][]float32, error) {
	all := make([][]float32, len(texts))
	err := e.States(ctx, texts, h.Pooling, func(i int, state []float32) error {
		all[i] = make([]float32, len(h.Biases))
		h.Scores(state, all[i])
		for _, v := range all[i] {
			if !Loss(v).Measured() {
				return errNoNumber(e.model.Path(), float64(v))
			}
		}
		if progress != nil {
			progress(i + 1)
		}
		return nil
	})
	return all, err
}

// Classify does what Scores does, and makes probabilities of the scores.
func (e *Evaluator) Classify(ctx context.Context, texts [][]int32, h *classify.Head, progress func(done int)) ([][]float32, error) {
	all, err := e.Scores(ctx, texts, h, progress)
	if err != nil {
		return nil, err
	}
	for _, scores := range all {
		classify.Probabilities(scores)
	}
	return all, nil
}
