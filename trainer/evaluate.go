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
	"finetune/internal/hint"
	"finetune/quant"
	"finetune/trainer/data"

	llama "github.com/go-skynet/go-llama.cpp"
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
	threads int
	pace    *pace
	exact   int64 // the most bytes of an exact form that Attach makes; 0 = no limit
}

// NewEvaluator makes a context of nCtx tokens on a model, which stays the caller's. threads 0 is one a physical core.
func NewEvaluator(model *llama.Model, nCtx, threads int) (*Evaluator, error) {
	if err := checkContext(model, nCtx); err != nil {
		return nil, err
	}
	if threads == 0 {
		threads = PhysicalCores()
	}
	tokens := max(nCtx, minBatch)
	params := llama.ContextParams{NCtx: tokens, NBatch: tokens, NUBatch: min(tokens, maxUBatch),
		NSeqMax: maxSequences, KVUnified: true, Threads: threads}
	if nCtx <= shortContext {
		params.FlashAttn = llama.FlashAttnOff
	}
	ctx, err := llama.NewContext(model, params)
	if err != nil {
		return nil, err
	}
	return &Evaluator{model: model, ctx: ctx, threads: threads, pace: newPace(threads), exact: machineMemory() / 2}, nil
}

// decode computes a batch, which is so much work, with as many threads as are worth it.
func (e *Evaluator) decode(b llama.Batch, work int) error {
	return e.pace.do(work, func(threads int) error {
		e.ctx.SetThreads(threads)
		return e.ctx.Decode(b)
	})
}

// Close frees the context. It may be called twice.
func (e *Evaluator) Close() error { return e.ctx.Close() }

// Attach puts the adapter in path on the context with a scale, beside those that are attached already: a GGUF LoRA as it
// is, a run directory or a file of another method by its exact form. The result detaches it. One whose exact form is more
// than half of the machine's memory is an ErrExactTooLarge.
func (e *Evaluator) Attach(path string, scale float32) (detach func() error, err error) {
	file, remove, err := loadable(path, e.model.Path(), e.exact)
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

// AdapterPath is the file of an adapter that is given by its own path or by that of its run directory. A run that trained
// the model itself has none, which is an error with a hint.
func AdapterPath(path string) (string, error) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return path, nil
	}
	if c, err := LoadConfig(filepath.Join(path, ConfigFile)); err == nil && c.Method == MethodFull {
		return "", wholeModel(path)
	}
	return filepath.Join(path, AdapterFile), nil
}

// wholeModel says that a run has no adapter because it trained the model itself.
func wholeModel(run string) error {
	return hint.With(fmt.Errorf("trainer: run directory %q: trained whole, there is no adapter", run),
		fmt.Sprintf("%s is the trained model, a GGUF for any llama.cpp app", filepath.Join(run, ModelFile)))
}

// ErrExactTooLarge is what errors.Is finds in the error of Attach for an adapter that llama.cpp cannot take.
var ErrExactTooLarge = errors.New("llama.cpp takes what is no LoRA by its exact form, which is too large")

// loadable returns a file that llama.cpp loads for an adapter of any kind over a model; remove deletes it if it was made for
// this. An exact form of more than most bytes is not made; 0 = no limit.
func loadable(path, model string, most int64) (file string, remove func(), err error) {
	if path, err = AdapterPath(path); err != nil {
		return "", nil, err
	}
	a, err := adapter.Load(path)
	if err != nil {
		return "", nil, err
	}
	if a.Method() == adapter.MethodLoRA {
		return path, func() {}, nil
	}
	if bytes := exactBytes(a); most > 0 && bytes > most {
		return "", nil, hint.With(fmt.Errorf("trainer: adapter %q: %w: %d MiB, and at most half of this machine's memory, %d MiB, is given to it",
			path, ErrExactTooLarge, mebibytes(bytes), mebibytes(most)), "finetune export makes a GGUF LoRA of a run")
	}
	base, err := bind(a, model)
	if err != nil {
		return "", nil, err
	}
	defer base.Close()
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

// bind opens a model for an adapter whose change depends on it. The result is open as long as that change is formed.
func bind(a *adapter.Adapter, model string) (*gguf.File, error) {
	f, err := OpenBase(model)
	if err != nil {
		return nil, err
	}
	if err := a.Bind(f, quant.Decode); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Loss is the mean loss over the windows' trained tokens with the adapters that are attached. progress, if not nil, is
// told how many windows are done.
func (e *Evaluator) Loss(ctx context.Context, windows []data.Window, progress func(done int)) (Loss, error) {
	var sum float64
	err := e.groups(ctx, windows, progress, func(g *group) error {
		loss, err := e.evaluate(g)
		sum += loss
		return err
	})
	if err != nil {
		return notMeasured, err
	}
	weight, err := trainedWeight(windows)
	if err != nil {
		return notMeasured, err
	}
	return Loss(sum / weight), nil
}

// trainedWeight is that of all trained tokens, of which there has to be one.
func trainedWeight(windows []data.Window) (float64, error) {
	weight := totalWeight(windows)
	if weight == 0 {
		return 0, fmt.Errorf("trainer: no trained token in %d windows", len(windows))
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
		for _, doc := range documents(w) {
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

// group is documents that share a batch.
type group struct {
	documents int
	batch     llama.Batch // document i is sequence i
	targets   []int32     // [tokens of the batch]
	weights   []float32   // likewise
}

func (g *group) add(doc data.Window) {
	for _, weight := range doc.Weight {
		g.batch.Seq = append(g.batch.Seq, int32(g.documents))
		g.batch.Output = append(g.batch.Output, weight != 0)
	}
	g.batch.Tokens = append(g.batch.Tokens, doc.Tokens...)
	g.batch.Pos = append(g.batch.Pos, doc.Pos...)
	g.targets = append(g.targets, doc.Targets...)
	g.weights = append(g.weights, doc.Weight...)
	g.documents++
}

func (e *Evaluator) fits(g *group, doc data.Window) bool {
	return g.documents < maxSequences && len(g.batch.Tokens)+len(doc.Tokens) <= e.ctx.NBatch()
}

// parts calls do for one part of a group after the other, so that few logits are held.
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

// evaluate is Σ weight·nll over a group, decoded in an empty cache.
func (e *Evaluator) evaluate(g *group) (sum float64, err error) {
	e.ctx.ClearMemory()
	err = g.parts(func(part llama.Batch, targets []int32, weights []float32) error {
		if err := e.decode(part, len(part.Tokens)); err != nil {
			return err
		}
		rows := e.logits(len(targets))
		losses := make([]float64, len(targets))
		e.eachRow(rows, func(i int) { losses[i] = float64(weights[i]) * negLogLikelihood(rows[i], targets[i]) })
		for _, loss := range losses {
			sum += loss
		}
		return nil
	})
	return sum, err
}

// logits are the rows of the last decoded batch of n tokens, nil for those without output. They are asked for one after
// the other, because llama.cpp may sort its rows when it is first asked.
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

// negLogLikelihood is log Σ exp(logits) − logits[target], in nats.
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
