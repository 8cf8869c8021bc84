// Package eval measures models and adapters as an app would see them, in llama.cpp itself: losses, how differently two
// adapters predict, generated text; and beside it what counting alone reaches.
//
//	m, err := native.Open("base.gguf")         // check err; defer m.Close()
//	e, err := eval.NewEvaluator(m, 512, 0)      // 512 tokens of context; defer e.Close()
//	detach, err := e.Attach("adapter.gguf", 1)  // or a run directory; defer detach()
//	loss, err := e.Loss(ctx, windows, nil)      // windows of trainer/data; loss.Perplexity()
//
// Losses are means in nats over the tokens that count. Where llama.cpp rounds activations to eight bits, they differ from
// the trainer's own, in full precision, by a thousandth or so.
package eval

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"

	"finetune/internal/hint"
	"finetune/internal/machine"
	"finetune/model/native"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Bounds of a batch. Short documents share one, as sequences of their own.
const (
	maxUBatch    = 512 // tokens that llama.cpp computes at once, and rows of logits that are held
	minBatch     = 256 // cells of the cache that a token is compared with, however few are in use
	maxSequences = 16  // in a batch
)

// shortContext is up to where attention is computed operation by operation: on a CPU, ggml's fused attention goes token by
// token. Beyond it, the scores of all heads would need too much memory.
const shortContext = 1024

// Evaluator measures losses as llama.cpp itself computes them, through its own LoRA path and with the cache that an app
// gets. One goroutine at a time.
type Evaluator struct {
	model   *llama.Model
	ctx     *llama.Context
	nCtx    int // tokens that a sequence may have; the context has room for more
	threads int
	tuner   *machine.ThreadTuner
	exact   int64 // the most bytes of an exact form that Load makes; 0 = no limit

	inUse []Scaled // adapters on the context
}

// NewEvaluator makes a context of nCtx tokens on a model, which stays the caller's. threads 0 is one per physical core.
func NewEvaluator(model *llama.Model, nCtx, threads int) (*Evaluator, error) {
	if err := native.CheckContext(model, nCtx); err != nil {
		return nil, err
	}
	threads = machine.ThreadCount(threads)
	tokens := max(nCtx, minBatch)
	params := llama.ContextParams{NCtx: tokens, NBatch: tokens, NUBatch: min(tokens, maxUBatch),
		NSeqMax: maxSequences, KVUnified: true, Threads: threads}
	if nCtx <= shortContext {
		params.FlashAttn = llama.FlashAttnOff
	}
	ctx, err := llama.NewContext(model, params)
	if err != nil && strings.Contains(err.Error(), "failed to allocate") { // llama.cpp's words, which has no code for it
		return nil, hint.With(err, "a shorter --ctx takes less memory; on a device --gpu-layers N does too, for fewer layers there")
	}
	if err != nil {
		return nil, err
	}
	return &Evaluator{model: model, ctx: ctx, nCtx: min(nCtx, ctx.NCtxSeq()), threads: threads, tuner: machine.NewThreadTuner(threads), exact: machine.Memory() / 2}, nil
}

// decode computes a batch on as many threads as are worth it for so much work, in tokens.
func (e *Evaluator) decode(b llama.Batch, work int) error {
	return e.tuner.Do(work, func(threads int) error {
		e.ctx.SetThreads(threads)
		return e.ctx.Decode(b)
	})
}

// Close frees the context. It may be called twice.
func (e *Evaluator) Close() error { return e.ctx.Close() }

// Loss returns the mean loss over the windows' trained tokens with the adapters that are attached. progress, if not
// nil, gets the number of windows that are done.
func (e *Evaluator) Loss(ctx context.Context, windows []data.Window, progress func(done int)) (Loss, error) {
	var sum float64
	err := e.groups(ctx, windows, progress, func(g *group) error {
		loss, err := e.evaluate(g)
		sum += loss
		return err
	})
	if err != nil {
		return NotMeasured, err
	}
	weight, err := trainedWeight(windows)
	if err != nil {
		return NotMeasured, err
	}
	return Loss(sum / weight), nil
}

// trainedWeight returns the sum of the loss masks of all windows, or an error if no token is trained.
func trainedWeight(windows []data.Window) (float64, error) {
	weight := data.TotalWeight(windows)
	if weight == 0 {
		return 0, fmt.Errorf("eval: no trained token in %d windows", len(windows))
	}
	return weight, nil
}

// groups calls do for one group of the windows' documents after the other. progress may be nil.
func (e *Evaluator) groups(ctx context.Context, windows []data.Window, progress func(done int), do func(*group) error) error {
	g := new(group)
	for i, w := range windows {
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, doc := range w.Documents() {
			if !e.fits(g, doc) {
				if err := do(g); err != nil {
					return err
				}
				g = new(group)
			}
			g.add(doc)
		}
		if progress != nil && i+1 < len(windows) {
			progress(i + 1)
		}
	}
	if err := do(g); err != nil {
		return err
	}
	if progress != nil {
		progress(len(windows))
	}
	return nil
}

// group holds documents that share a batch.
type group struct {
	documents int
	batch     llama.Batch // document i is sequence i
	targets   []int32     // [tokens of the batch]
	weights   []float32   // likewise
}

func (g *group) add(doc data.Window) {
	for _, weight := range doc.LossMask {
		g.batch.Seq = append(g.batch.Seq, int32(g.documents))
		g.batch.Output = append(g.batch.Output, weight != 0)
	}
	g.batch.Tokens = append(g.batch.Tokens, doc.Tokens...)
	g.batch.Pos = append(g.batch.Pos, doc.Pos...)
	g.targets = append(g.targets, doc.Targets...)
	g.weights = append(g.weights, doc.LossMask...)
	g.documents++
}

func (e *Evaluator) fits(g *group, doc data.Window) bool {
	return g.documents < maxSequences && len(g.batch.Tokens)+len(doc.Tokens) <= e.ctx.NBatch()
}

// parts calls do for one part of a group after the other, maxUBatch tokens at most, so that few logits are held.
func (g *group) parts(do func(part llama.Batch, targets []int32, weights []float32) error) error {
	all := g.batch
	for from := 0; from < len(all.Tokens); from += maxUBatch {
		to := min(from+maxUBatch, len(all.Tokens))
		part := llama.Batch{Tokens: all.Tokens[from:to], Pos: all.Pos[from:to], Seq: all.Seq[from:to], Output: all.Output[from:to]}
		if err := do(part, g.targets[from:to], g.weights[from:to]); err != nil {
			return err
		}
	}
	return nil
}

// evaluate decodes a group of windows in an empty cache and returns Σ weight·nll over it.
func (e *Evaluator) evaluate(g *group) (sum float64, err error) {
	e.ctx.ClearMemory()
	err = g.parts(func(part llama.Batch, targets []int32, weights []float32) error {
		if err := e.decode(part, len(part.Tokens)); err != nil {
			return err
		}
		rows := e.logits(len(targets))
		losses := make([]float64, len(targets))
		e.eachRow(rows, func(i int) { losses[i] = float64(weights[i]) * negLogLikelihood(rows[i], targets[i]) })
		for i, loss := range losses {
			if rows[i] != nil && !Loss(loss).Measured() {
				return errNoNumber(e.model.Path(), loss)
			}
			sum += loss
		}
		return nil
	})
	return sum, err
}

// errNoNumber is what a model with damaged weights, or an adapter with such, is answered with.
func errNoNumber(path string, loss float64) error {
	return hint.With(fmt.Errorf("eval: model %q: want a loss that is a number, got %v", path, loss),
		"the weights of the model or of an adapter are damaged, or too large for its activations")
}

// logits returns the rows of the last decoded batch of n tokens, nil for those without output. It asks for them one
// after the other, because llama.cpp may reorder its rows at the first call.
func (e *Evaluator) logits(n int) [][]float32 {
	rows := make([][]float32, n)
	for i := range rows {
		rows[i] = e.ctx.Logits(i)
	}
	return rows
}

// eachRow calls do for every row that there is, on all threads.
func (e *Evaluator) eachRow(rows [][]float32, do func(i int)) {
	var wg sync.WaitGroup
	for k := range e.threads {
		wg.Go(func() {
			for i := k; i < len(rows); i += e.threads {
				if rows[i] != nil {
					do(i)
				}
			}
		})
	}
	wg.Wait()
}

// negLogLikelihood returns log Σ exp(logits) − logits[target], in nats.
func negLogLikelihood(logits []float32, target int32) float64 {
	top, z := partition(logits)
	return math.Log(z) + float64(top-logits[target])
}

// partition returns the largest of the logits and Σ exp(logits − top).
func partition(logits []float32) (top float32, z float64) {
	top = logits[0]
	for _, v := range logits {
		top = max(top, v)
	}
	for _, v := range logits {
		z += math.Exp(float64(v - top))
	}
	return top, z
}
