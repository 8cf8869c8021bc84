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
//
// It comes to be in two steps. Prepare traces and differentiates, and measures what the result needs; Fit and LetGo then
// choose between memory and work. Allocate takes the memory, and from there on the engine computes.
type Engine struct {
	shape   Shape
	with    products
	model   *llama.Model
	backend *ggml.Backend
	params  *ggml.Context // the tensors of the factors and of their gradients
	home    *ggml.Buffer  // and their memory
	factors []factor
	*body
	alloc *ggml.Allocator // the body's memory
	head  *head

	trace    *trace // until Allocate
	make     func(Recompute) (*body, error)
	held     bool  // the body is not to be made again
	canDrop  bool  // the weights are mapped and can leave memory
	resident int64 // bytes of weights that stay in memory at once; 0: all
	forward  []run
	reverse  []run
	drops    []ggml.Tensor // weights that are let go behind the head

	rows    []int     // scratch: indices of trained rows
	targets []int32   // scratch: [N]
	weights []float32 // scratch: [N]
}

// factor is one trained matrix: where the caller keeps it, where the graph reads it, where its gradients are summed.
type factor struct {
	name  string
	mat   adapter.Mat
	leaf  ggml.Tensor
	sums  ggml.Tensor // the sums of all factors of its weight
	from  int         // its first element there
	total []float32   // the part of it that is its own, over the calls of Step since Reset
}

// Options of an Engine.
type Options struct {
	Shape   Shape
	Threads int
	// Recompute says what the backward pass forms again rather than finds in memory, at least.
	Recompute Recompute
	// Limit is the most work memory in bytes, as for Fit; 0 = no limit.
	Limit int64
	// KeepAll forbids the allocator to reuse any memory or to work in place: for tests, which compare both.
	KeepAll bool
	// Composed builds every product of ggml's own operations instead of our kernels: the kernels' oracle.
	Composed bool
}

// New is Prepare, Fit to the limit if there is one, and Allocate.
func New(model *llama.Model, weights []adapter.Weight, o Options) (*Engine, error) {
	e, err := Prepare(model, weights, o)
	if err != nil {
		return nil, err
	}
	if o.Limit > 0 {
		err = e.Fit(o.Limit)
	}
	if err == nil {
		err = e.Allocate()
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Prepare builds the training graph of a model for the given adapted weights, and takes no memory for it yet. It returns
// an *UnsupportedError for an architecture that has no way through the engine. The model has to stay open as long as the
// Engine, and its weights leave the process's memory until they are read.
func Prepare(model *llama.Model, weights []adapter.Weight, o Options) (_ *Engine, err error) {
	if o.Shape.Ctx < 1 || o.Shape.Seqs < 1 {
		return nil, fmt.Errorf("graph: a batch of %d sequences of %d tokens, want at least 1 of each", o.Shape.Seqs, o.Shape.Ctx)
	}
	e := &Engine{shape: o.Shape, model: model, with: products{native: !o.Composed}}
	defer func() {
		if err != nil {
			e.Close()
		}
	}()
	if e.backend, err = ggml.NewCPU(o.Threads); err != nil {
		return nil, err
	}
	terms, sums, targets, err := e.newParams(weights)
	if err != nil {
		return nil, err
	}
	if e.trace, err = newTrace(model, o.Shape, targets); err != nil {
		return nil, err
	}
	return e, e.build(terms, sums, o)
}

// newParams makes a tensor for every factor and one for the gradients of each weight's factors, in a buffer that no
// allocator touches and that nothing is written to yet.
func (e *Engine) newParams(weights []adapter.Weight) (terms map[string]term, sums map[ggml.Tensor]ggml.Tensor, targets []target, err error) {
	n := 1
	for _, w := range weights {
		n += len(w.Factors.Mats()) + 1
	}
	if e.params, err = ggml.NewContext(n, 0); err != nil {
		return nil, nil, nil, err
	}
	terms, sums = map[string]term{}, map[ggml.Tensor]ggml.Tensor{}
	for _, w := range weights {
		leaves := e.addFactors(w)
		sums[leaves[0]] = e.factors[len(e.factors)-1].sums // the same for all factors of the weight
		terms[w.Name] = e.with.newTerm(w.Factors, leaves)
		nIn, nOut := w.Factors.Shape()
		targets = append(targets, target{w.Name, nIn, nOut})
	}
	if len(weights) > 0 {
		e.home, err = e.backend.AllocateAll(e.params)
	}
	return terms, sums, targets, err
}

// addFactors makes the tensors of one weight.
func (e *Engine) addFactors(w adapter.Weight) (leaves []ggml.Tensor) {
	mats := w.Factors.Mats()
	sums := e.params.NewTensor(ggml.F32, int64(adapter.Parameters(w.Factors))).SetName(w.Name + ".gradients")
	from := 0
	for _, m := range mats {
		name := w.Name + "." + m.Suffix
		leaf := e.params.NewTensor(ggml.F32, int64(m.Mat.NE[0]), int64(m.Mat.NE[1])).SetName(name)
		leaves = append(leaves, leaf)
		e.factors = append(e.factors, factor{name: name, mat: m.Mat, leaf: leaf, sums: sums, from: from})
		from += len(m.Mat.Data)
	}
	return leaves
}

// build makes the body (forward, backward) and the head from the traced nodes.
func (e *Engine) build(terms map[string]term, sums map[ggml.Tensor]ggml.Tensor, o Options) (err error) {
	arch, nodes := e.model.Arch(), e.trace.nodes
	split, err := splitHead(arch, nodes)
	if err != nil {
		return err
	}
	hidden := nodes[split].Src(1)
	e.head, err = newHead(e.backend, e.with, arch, nodes[split:], hidden, e.shape.Tokens())
	if err != nil {
		return err
	}
	e.make = func(r Recompute) (*body, error) {
		return newBody(bodySpec{arch: arch, shape: e.shape, with: e.with, terms: terms, sums: sums, nodes: nodes[:split], hidden: hidden, recompute: r})
	}
	if e.body, err = e.make(o.Recompute); err != nil {
		return err
	}
	if e.held = o.KeepAll; e.held {
		e.holdAll()
	}
	e.canDrop = e.model.DropFiles(e.allOf())
	return nil
}

// Allocate takes the memory that Sizes says, and gives back that of the trace. After it the engine computes.
func (e *Engine) Allocate() (err error) {
	if err := e.closeTrace(); err != nil {
		return err
	}
	if e.alloc, err = e.backend.Allocate(e.body.whole); err != nil {
		return err
	}
	if err := e.head.allocate(e.backend); err != nil {
		return err
	}
	e.targets, e.weights = make([]int32, e.shape.Tokens()), make([]float32, e.shape.Tokens())
	for i := range e.factors {
		f := &e.factors[i]
		f.total = f.sums.Floats()[f.from:][:len(f.mat.Data)]
	}
	e.Upload()
	e.Reset()
	return e.arrange()
}

func (e *Engine) closeTrace() error {
	if e.trace == nil {
		return nil
	}
	err := e.trace.close()
	e.trace, e.make = nil, nil
	return err
}

// Close frees everything but the model. It may be called twice.
func (e *Engine) Close() error {
	err := e.closeTrace()
	if e.head != nil {
		e.head.close()
		e.head = nil
	}
	for _, r := range append(e.forward, e.reverse...) {
		r.close()
	}
	e.forward, e.reverse = nil, nil
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
		err = errors.Join(err, e.backend.Close())
	}
	return err
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
	Data []float32 // in the order of the factor's elements; the Engine's own memory, gone with it
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
		if !e.reached[f.leaf] {
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
	return loss, e.compute(e.reverse)
}

// Loss is Σ weight·nll over the windows, as Step returns it, without gradients.
func (e *Engine) Loss(windows []data.Window) (float64, error) { return e.run(windows, nil, 1) }

// run is the forward pass and the head.
func (e *Engine) run(windows []data.Window, seed []float32, scale float32) (float64, error) {
	if err := e.load(windows); err != nil {
		return 0, err
	}
	if err := e.compute(e.forward); err != nil {
		return 0, err
	}
	loss, err := e.head.run(e.backend, e.hidden.Floats(), seed, e.rows, e.targets, e.weights, scale)
	e.model.DropWeights(e.drops)
	return loss, err
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
	if err := e.compute(e.forward); err != nil {
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
