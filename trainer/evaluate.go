package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/trainer/data"

	llama "github.com/go-skynet/go-llama.cpp"
)

// maxUBatch bounds how many tokens llama.cpp computes at once.
const maxUBatch = 512

// Evaluator measures losses as llama.cpp itself computes them, through its own LoRA path and with the attention and the
// cache that an app gets. One goroutine at a time.
type Evaluator struct {
	model *llama.Model
	ctx   *llama.Context
}

// NewEvaluator makes a context of nCtx tokens on a model, which stays the caller's. threads 0 is one a physical core.
func NewEvaluator(model *llama.Model, nCtx, threads int) (*Evaluator, error) {
	if err := checkContext(model, nCtx); err != nil {
		return nil, err
	}
	if threads == 0 {
		threads = PhysicalCores()
	}
	ctx, err := llama.NewContext(model, llama.ContextParams{NCtx: nCtx, NBatch: nCtx, NUBatch: min(nCtx, maxUBatch), Threads: threads})
	if err != nil {
		return nil, err
	}
	return &Evaluator{model: model, ctx: ctx}, nil
}

// Close frees the context. It may be called twice.
func (e *Evaluator) Close() error { return e.ctx.Close() }

// Attach puts the adapter in path on the context with a scale, beside those that are attached already: a GGUF LoRA as it
// is, a run directory or a Dual LoRA file by its exact form. The result detaches it.
func (e *Evaluator) Attach(path string, scale float32) (detach func() error, err error) {
	file, remove, err := loadable(path)
	if err != nil {
		return nil, err
	}
	defer remove() // llama.cpp has read it all by then
	a, err := llama.LoadAdapter(e.model, file)
	if err != nil {
		return nil, err
	}
	if err := e.ctx.SetAdapter(a, scale); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return func() error { e.ctx.ClearAdapters(); return a.Close() }, nil
}

// adapterFile is the file of an adapter that is given by its own path or by that of its run directory.
func adapterFile(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return filepath.Join(path, AdapterFile)
	}
	return path
}

// loadable returns a file that llama.cpp loads for an adapter of any kind; remove deletes it if it was made for this.
func loadable(path string) (file string, remove func(), err error) {
	path = adapterFile(path)
	a, err := adapter.Load(path)
	if err != nil {
		return "", nil, err
	}
	if a.Method() == adapter.MethodLoRA {
		return path, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "finetune-exact-")
	if err != nil {
		return "", nil, err
	}
	file = filepath.Join(dir, "exact.gguf")
	if err := a.WriteExact(file, adapter.LoRAOptions{Type: gguf.TypeF32}); err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	return file, func() { os.RemoveAll(dir) }, nil
}

// Loss is the mean loss over the windows' trained tokens with the adapters that are attached. progress, if not nil, is
// told how many windows are done.
func (e *Evaluator) Loss(ctx context.Context, windows []data.Window, progress func(done int)) (Loss, error) {
	var sum float64
	for i, w := range windows {
		if err := ctx.Err(); err != nil {
			return notMeasured, err
		}
		for _, doc := range documents(w) {
			loss, err := e.document(doc)
			if err != nil {
				return notMeasured, err
			}
			sum += loss
		}
		if progress != nil {
			progress(i + 1)
		}
	}
	weight := totalWeight(windows)
	if weight == 0 {
		return notMeasured, fmt.Errorf("trainer: no trained token in %d windows", len(windows))
	}
	return Loss(sum / weight), nil
}

// documents cuts a packed window into its documents, without those of which nothing is trained.
func documents(w data.Window) (docs []data.Window) {
	for from := 0; from < len(w.Tokens); {
		to := from
		for to < len(w.Tokens) && w.Doc[to] == w.Doc[from] {
			to++
		}
		doc := data.Window{Tokens: w.Tokens[from:to], Targets: w.Targets[from:to], Pos: w.Pos[from:to], Weight: w.Weight[from:to]}
		if trainedTokens([]data.Window{doc}) > 0 {
			docs = append(docs, doc)
		}
		from = to
	}
	return docs
}

// document is Σ weight·nll over one document, decoded in an empty cache.
func (e *Evaluator) document(w data.Window) (float64, error) {
	output := make([]bool, len(w.Tokens))
	for i, weight := range w.Weight {
		output[i] = weight != 0
	}
	e.ctx.ClearMemory()
	if err := e.ctx.Decode(llama.Batch{Tokens: w.Tokens, Pos: w.Pos, Output: output}); err != nil {
		return 0, err
	}
	losses := make([]float64, len(w.Tokens))
	var wg sync.WaitGroup
	workers := PhysicalCores()
	for k := range workers {
		wg.Go(func() {
			for i := k; i < len(w.Tokens); i += workers {
				if output[i] {
					losses[i] = float64(w.Weight[i]) * negLogLikelihood(e.ctx.Logits(i), w.Targets[i])
				}
			}
		})
	}
	wg.Wait()
	var sum float64
	for _, l := range losses {
		sum += l
	}
	return sum, nil
}

// negLogLikelihood is log Σ exp(logits) − logits[target], in nats.
func negLogLikelihood(logits []float32, target int32) float64 {
	top := logits[0]
	for _, v := range logits {
		top = max(top, v)
	}
	var z float64
	for _, v := range logits {
		z += math.Exp(float64(v - top))
	}
	return math.Log(z) + float64(top-logits[target])
}
