package graph

import (
	"errors"
	"fmt"

	"finetune/adapter"
	"finetune/trainer/data"

	llama "github.com/go-skynet/go-llama.cpp"
	"github.com/go-skynet/go-llama.cpp/ggml"
)

// target is what the trace needs to know of a Weight.
type target struct {
	name      string
	nIn, nOut int
}

// Engine computes losses and gradients of an adapter over a base model, for batches of one shape. It does not change the
// factors: between steps the caller does, and calls Upload. One goroutine at a time.
type Engine struct {
	shape   Shape
	with    products
	backend *ggml.Backend
	params  *ggml.Context // the factors' tensors
	home    *ggml.Buffer  // and their memory
	factors []factor
	*body
	alloc *ggml.Allocator // the body's memory
	head  *head

	rows    []int     // scratch: indices of trained rows
	targets []int32   // scratch: [N]
	weights []float32 // scratch: [N]
}

// factor is one trained matrix: where the caller keeps it, where the graph reads it, where its gradient appears.
type factor struct {
	name  string
	mat   adapter.Mat
	leaf  ggml.Tensor
	grad  ggml.Tensor // none if no gradient reaches it
	total []float32   // gradient summed over the calls of Step since Reset
}

// Options of an Engine.
type Options struct {
	Shape   Shape
	Threads int
	// Recompute says what the backward pass forms again rather than finds in memory, at least.
	Recompute Recompute
	// Limit is the most work memory in bytes; the engine recomputes more to stay below, and is above if even
	// RecomputeAll needs more. 0 = no limit.
	Limit int64
	// KeepAll forbids the allocator to reuse any memory or to work in place: for tests, which compare both.
	KeepAll bool
	// Composed builds every product of ggml's own operations instead of our kernels: the kernels' oracle.
	Composed bool
}

// New builds the training graph of a model for the given adapted weights. It returns an *UnsupportedError for an
// architecture that has no way through the engine. The model has to stay open as long as the Engine.
func New(model *llama.Model, weights []adapter.Weight, o Options) (_ *Engine, err error) {
	if o.Shape.Ctx < 1 || o.Shape.Seqs < 1 {
		return nil, fmt.Errorf("graph: a batch of %d sequences of %d tokens, want at least 1 of each", o.Shape.Seqs, o.Shape.Ctx)
	}
	e := &Engine{shape: o.Shape, with: products{native: !o.Composed}}
	defer func() {
		if err != nil {
			e.Close()
		}
	}()
	if e.backend, err = ggml.NewCPU(o.Threads); err != nil {
		return nil, err
	}
	terms, targets, err := e.newParams(weights)
	if err != nil {
		return nil, err
	}
	t, err := newTrace(model, o.Shape, targets)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if err := e.build(model.Arch(), t.nodes, terms, o); err != nil {
		return nil, err
	}
	return e, nil
}

// newParams makes a tensor for every factor, in a buffer that no allocator touches.
func (e *Engine) newParams(weights []adapter.Weight) (map[string]term, []target, error) {
	n := 1
	for _, w := range weights {
		n += len(w.Factors.Mats())
	}
	var err error
	if e.params, err = ggml.NewContext(n, 0); err != nil {
		return nil, nil, err
	}
	terms := map[string]term{}
	var targets []target
	for _, w := range weights {
		var leaves []ggml.Tensor
		for _, m := range w.Factors.Mats() {
			name := w.Name + "." + m.Suffix
			leaf := e.params.NewTensor(ggml.F32, int64(m.Mat.NE[0]), int64(m.Mat.NE[1])).SetName(name)
			leaves = append(leaves, leaf)
			e.factors = append(e.factors, factor{name: name, mat: m.Mat, leaf: leaf, total: make([]float32, len(m.Mat.Data))})
		}
		nIn, nOut := w.Factors.Shape()
		terms[w.Name] = e.with.newTerm(w.Factors, leaves)
		targets = append(targets, target{w.Name, nIn, nOut})
	}
	if len(weights) > 0 {
		if e.home, err = e.backend.AllocateAll(e.params); err != nil {
			return nil, nil, err
		}
		e.Upload()
	}
	return terms, targets, nil
}

// build makes the body (forward, backward) and the head from the traced nodes.
func (e *Engine) build(arch string, nodes []ggml.Tensor, terms map[string]term, o Options) (err error) {
	split, err := splitHead(arch, nodes)
	if err != nil {
		return err
	}
	hidden := nodes[split].Src(1)
	e.head, err = newHead(e.backend, e.with, arch, nodes[split:], hidden, e.shape.Tokens())
	if err != nil {
		return err
	}
	e.targets, e.weights = make([]int32, e.shape.Tokens()), make([]float32, e.shape.Tokens())
	make := func(r Recompute) (*body, error) {
		return newBody(bodySpec{arch: arch, shape: e.shape, with: e.with, terms: terms, nodes: nodes[:split], hidden: hidden, recompute: r})
	}
	if e.body, err = e.fit(make, o); err != nil {
		return err
	}
	if o.KeepAll {
		e.body.holdAll()
	}
	for i := range e.factors {
		e.factors[i].grad = e.body.grads[e.factors[i].leaf]
	}
	e.alloc, err = e.backend.Allocate(e.body.whole)
	return err
}

// fit makes the body that recomputes as little as the limit on work memory allows.
func (e *Engine) fit(make func(Recompute) (*body, error), o Options) (*body, error) {
	best, err := make(o.Recompute)
	if err != nil || o.Limit == 0 || e.size(best) <= o.Limit {
		return best, err
	}
	most := best.stretches
	for low, high := int(o.Recompute)+1, most; low <= high; {
		n := (low + high) / 2
		b, err := make(Recompute(n))
		if err != nil {
			best.close()
			return nil, err
		}
		if fits := e.size(b) <= o.Limit; fits || n == most {
			best.close()
			best = b
			if fits {
				high = n - 1
				continue
			}
		} else {
			b.close()
		}
		low = n + 1
	}
	return best, nil
}

// size is the work memory of the engine with this body.
func (e *Engine) size(b *body) int64 { return e.backend.Measure(b.whole) + e.head.alloc.Bytes() }

// Close frees everything but the model. It may be called twice.
func (e *Engine) Close() error {
	if e.head != nil {
		e.head.close()
		e.head = nil
	}
	if e.alloc != nil {
		e.alloc.Close()
	}
	if e.body != nil {
		e.body.close()
	}
	if e.params != nil {
		e.params.Close()
	}
	if e.home != nil {
		e.home.Close()
	}
	if e.backend != nil {
		return e.backend.Close()
	}
	return nil
}

// Shape is that of the batches.
func (e *Engine) Shape() Shape { return e.shape }

// Upload copies the factors from where the caller keeps them to where the graph reads them.
func (e *Engine) Upload() {
	for i := range e.factors {
		e.factors[i].leaf.SetFloats(e.factors[i].mat.Data)
	}
}

// Gradient is the gradient of one factor, summed over the calls of Step since the last Reset.
type Gradient struct {
	Name string    // "<weight>.<suffix>"
	Data []float32 // in the order of the factor's elements; the Engine's own memory
}

// Gradients lists those of all factors, in the order of the weights and of Factors.Mats. The slices stay the same.
func (e *Engine) Gradients() []Gradient {
	var all []Gradient
	for _, f := range e.factors {
		all = append(all, Gradient{f.name, f.total})
	}
	return all
}

// Unreached lists the factors that no gradient reaches: weights that llama.cpp's graph does not adapt.
func (e *Engine) Unreached() []string {
	var names []string
	for _, f := range e.factors {
		if f.grad.IsNil() {
			names = append(names, f.name)
		}
	}
	return names
}

// Reset makes the summed gradients zero.
func (e *Engine) Reset() {
	for _, f := range e.factors {
		clear(f.total)
	}
}

// Step adds the gradient of scale·Σ weight·nll over the windows, Shape.Seqs of Shape.Ctx tokens, to the sums. It returns
// Σ weight·nll, not scaled. With scale = 1/Σ weight over all windows of an optimizer step, the sums are the gradient of
// the mean loss over the trained tokens of that step, however many calls it takes.
func (e *Engine) Step(windows []data.Window, scale float32) (float64, error) {
	clear(e.seed.Floats())
	loss, err := e.run(windows, e.seed.Floats(), scale)
	if err != nil || len(e.rows) == 0 {
		return loss, err
	}
	if err := e.backend.Compute(e.reverse); err != nil {
		return 0, err
	}
	for _, f := range e.factors {
		if f.grad.IsNil() {
			continue
		}
		for i, g := range f.grad.Floats() {
			f.total[i] += g
		}
	}
	return loss, nil
}

// Loss is Σ weight·nll over the windows, as Step returns it, without gradients.
func (e *Engine) Loss(windows []data.Window) (float64, error) { return e.run(windows, nil, 1) }

// run is the forward pass and the head.
func (e *Engine) run(windows []data.Window, seed []float32, scale float32) (float64, error) {
	if err := e.load(windows); err != nil {
		return 0, err
	}
	if err := e.backend.Compute(e.forward); err != nil {
		return 0, err
	}
	return e.head.run(e.backend, e.hidden.Floats(), seed, e.rows, e.targets, e.weights, scale)
}

// load writes a batch into the leaves and lists its trained rows.
func (e *Engine) load(windows []data.Window) error {
	if len(windows) != e.shape.Seqs {
		return fmt.Errorf("graph: %d windows, want %d", len(windows), e.shape.Seqs)
	}
	e.rows = e.rows[:0]
	for s, w := range windows {
		if len(w.Tokens) != e.shape.Ctx {
			return fmt.Errorf("graph: a window of %d tokens, want %d", len(w.Tokens), e.shape.Ctx)
		}
		copy(e.targets[s*e.shape.Ctx:], w.Targets)
		copy(e.weights[s*e.shape.Ctx:], w.Weight)
		for i, weight := range w.Weight {
			if weight != 0 {
				e.rows = append(e.rows, s*e.shape.Ctx+i)
			}
		}
	}
	for _, in := range e.inputs {
		if in.leaf.HasData() { // a leaf that nothing in the graph needs has no memory
			in.fill(e.shape, windows)
		}
	}
	return nil
}

// Logits computes the logits [V, N] of every position of the windows: for tests, and for learning from a teacher.
func (e *Engine) Logits(windows []data.Window) ([]float32, error) {
	if err := e.load(windows); err != nil {
		return nil, err
	}
	if err := e.backend.Compute(e.forward); err != nil {
		return nil, err
	}
	var logits []float32
	zeros := make([]int32, e.shape.Tokens())
	none := make([]float32, e.shape.Tokens())
	for row := 0; row < e.shape.Tokens(); row += e.head.rows {
		var chunk []int
		for i := row; i < min(row+e.head.rows, e.shape.Tokens()); i++ {
			chunk = append(chunk, i)
		}
		e.head.load(e.hidden.Floats(), chunk, zeros, none, 1)
		if err := e.backend.Compute(e.head.scores); err != nil {
			return nil, err
		}
		vocab := int(e.head.logits.NE()[0])
		logits = append(logits, e.head.logits.Floats()[:vocab*len(chunk)]...)
	}
	return logits, nil
}

// WorkBytes is the memory of the body's and the head's activations and gradients.
func (e *Engine) WorkBytes() int64 { return e.alloc.Bytes() + e.head.alloc.Bytes() }
