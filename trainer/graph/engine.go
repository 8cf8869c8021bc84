package graph

import (
	"errors"
	"fmt"

	"finetune/adapter"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/llama"
)

// target is what the trace needs to know of a Weight.
type target struct {
	name      string
	nIn, nOut int
}

// Engine computes losses and gradients of an adapter over a base model, or of the base's own tensors, for batches of one
// shape. It does not change the trainable parameters: the caller does so between steps, and then calls Upload. One
// goroutine at a time.
//
// It is made in two steps. Prepare traces and differentiates the graph and measures its memory; FitMemory and
// SetResidentWeights then trade memory against work. Allocate takes the memory, and after it the engine computes.
type Engine struct {
	shape            Shape
	ops              opSet
	model            *llama.Model
	backend          *ggml.Backend
	drawn            draw
	leaves           *ggml.Context // tensors of the trainable parameters and of their gradients
	leafMemory       *ggml.Buffer  // theirs
	params           []param
	lessChange       float32 // 1 − the share of ΔW that counts
	constants        []constant
	statisticsLeaves map[string]ggml.Tensor // activation statistics by name, see Statistics
	tokens           int64                  // that the statistics are over
	*body
	alloc *ggml.Allocator // the body's memory
	head  *head

	trace    *trace // until Allocate
	make     func(recomputeLevel) (*body, error)
	keepAll  bool  // no node may share memory: the body stays as it is
	canPage  bool  // the weights are mapped from their file and can be paged out
	resident int64 // most bytes of weights in memory at once; 0 = all of them
	forward  []run
	reverse  []run
	paged    []ggml.Tensor // weights that are paged out after the head has run

	rows    []int     // scratch: indices of trained rows
	targets []int32   // scratch: [N]
	weights []float32 // scratch: [N]
}

// param is one trainable tensor: where the caller keeps it, where the graph reads it, where its gradient is summed.
type param struct {
	name  string
	ne    []int64
	warms bool        // a warm-up of the change is one of this factor
	data  []float32   // the caller's
	leaf  ggml.Tensor // F32 [ne]
	total ggml.Tensor // F32 [ne], the gradient, summed over the calls of Step since Reset
}

// constant is a vector that an adapted product reads beside its factors and that nothing changes.
type constant struct {
	data []float32   // the caller's, [n]
	leaf ggml.Tensor // F32 [n], where the graph reads it
}

// Master is the copy in F32 of a tensor of the base that is trained in its place.
type Master struct {
	Name  string    // of the base's tensor
	Shape []int64   // ggml's, fastest dimension first
	Data  []float32 // the caller's, in the order of the elements
}

// Options of an Engine.
type Options struct {
	Shape   Shape
	Threads int
	// recompute says how much the backward pass computes again instead of finding it in memory, at least.
	recompute recomputeLevel
	// keepAll gives every node memory of its own, never reused or written in place: for tests, which compare both.
	keepAll bool
	// reference builds the graph of ggml's own operations instead of our kernels: the kernels' oracle.
	reference bool
	// exact keeps the kernels from rounding activations to 8 bits: for tests, which compare with what does not.
	exact bool
	// Statistics gathers activation statistics of the adapted weights in Step, see Engine.Statistics.
	Statistics bool
	// MagnitudeEvery forms the gradients of A and B of a Dual LoRA whose magnitude has one rank, which take a product of the
	// size of W, over one of so many tokens: an estimate that is right in the mean. Up to 1: over all. See Engine.SetDraw.
	MagnitudeEvery int
	// ForwardOnly leaves out the backward pass: only Hidden may be called, and only its memory is taken.
	ForwardOnly bool
	// Teacher builds a head for StepToward, which then takes the place of Step and Loss: the loss is the divergence from
	// a teacher's probabilities. HardLabelWeight, 0 to 1, is the part of the loss that the windows' own targets get.
	Teacher         bool
	HardLabelWeight float32
}

// Prepare builds the training graph of a model for the given adapted weights, and takes no memory for it yet. It returns
// an *UnsupportedError for an architecture with an operation that has no derivative rule. The model has to stay open as
// long as the Engine. Pages of its file that were read so far leave the process's memory; reading brings them back.
func Prepare(model *llama.Model, weights []adapter.Weight, o Options) (*Engine, error) {
	var targets []target
	var params []param
	var fixed []constant
	for _, w := range weights {
		nIn, nOut := w.Factors.Shape()
		targets = append(targets, target{w.Name, nIn, nOut})
		for _, m := range w.Factors.Matrices() {
			ne := []int64{int64(m.Mat.NE[0]), int64(m.Mat.NE[1])}
			params = append(params, param{name: w.Name + "." + m.Suffix, ne: ne, data: m.Mat.Data, warms: m.Warms})
		}
		for _, data := range constantsOf(w.Factors) {
			fixed = append(fixed, constant{data: data})
		}
	}
	return open(model, params, fixed, targets, o, func(e *Engine) trainedSet { return trainedSet{linears: e.linears(weights)} })
}

// PrepareFull builds the training graph of a model whose own tensors are trained: where llama.cpp's graph reads one of
// them, ours reads the master instead, whatever the tensor's type. Otherwise it does what Prepare does.
func PrepareFull(model *llama.Model, masters []Master, o Options) (*Engine, error) {
	var params []param
	for _, m := range masters {
		params = append(params, param{name: m.Name, ne: m.Shape, data: m.Data})
	}
	return open(model, params, nil, nil, o, func(e *Engine) trainedSet { return trainedSet{masters: e.masters()} })
}

// open makes the leaves of the params, lets llama.cpp build its graph with adapters on the targets, and turns that into
// the training graph. newSet is called once the leaves exist.
func open(model *llama.Model, params []param, fixed []constant, targets []target, o Options, newSet func(*Engine) trainedSet) (_ *Engine, err error) {
	if o.Shape.Ctx < 1 || o.Shape.Seqs < 1 {
		return nil, fmt.Errorf("graph: a batch of %d sequences of %d tokens, want at least 1 of each", o.Shape.Seqs, o.Shape.Ctx)
	}
	e := &Engine{shape: o.Shape, model: model, ops: opSet{native: !o.reference, exact: o.exact}, params: params, constants: fixed}
	defer func() {
		if err != nil {
			e.Close()
		}
	}()
	if e.backend, err = ggml.NewCPU(o.Threads); err != nil {
		return nil, err
	}
	var gathered []target
	if o.Statistics {
		gathered = targets
	}
	if err := e.newLeaves(gathered, o.MagnitudeEvery); err != nil {
		return nil, err
	}
	if e.trace, err = newTrace(model, o.Shape, targets); err != nil {
		return nil, err
	}
	if err := e.build(newSet(e), o); err != nil {
		return nil, err
	}
	return e, nil
}

// newLeaves makes the tensors of the params, of their gradients, of the constants and of the statistics that are gathered,
// in a buffer that no allocator touches. Nothing is written to it yet.
func (e *Engine) newLeaves(gathered []target, magnitudeEvery int) (err error) {
	if e.leaves, err = ggml.NewContext(2*(len(e.params)+len(gathered))+len(e.constants)+2, 0); err != nil || len(e.params) == 0 {
		return err
	}
	e.statisticsLeaves = map[string]ggml.Tensor{}
	for _, t := range gathered {
		e.statisticsLeaves[t.name+SuffixInputs] = e.leaves.NewTensor(ggml.F32, int64(t.nIn))
		e.statisticsLeaves[t.name+SuffixOutputs] = e.leaves.NewTensor(ggml.F32, int64(t.nOut))
	}
	for i := range e.params {
		p := &e.params[i]
		p.leaf = e.leaves.NewTensor(ggml.F32, p.ne...).SetName(p.name)
		p.total = e.leaves.NewTensor(ggml.F32, p.ne...)
	}
	for i := range e.constants {
		e.constants[i].leaf = e.leaves.NewTensor(ggml.F32, int64(len(e.constants[i].data)))
	}
	if magnitudeEvery > 1 {
		e.drawn.rows = e.leaves.NewTensor(ggml.I32, int64(max(1, e.shape.tokens()/magnitudeEvery)))
	}
	e.leafMemory, err = e.backend.AllocateAll(e.leaves)
	return err
}

// newLinears returns the products with the adapted weights by name; e.params has their factors, e.constants the rest.
func (e *Engine) linears(weights []adapter.Weight) map[string]linear {
	linears, params, fixed := map[string]linear{}, e.params, e.constants
	for _, w := range weights {
		var mats, vectors []ggml.Tensor
		for range w.Factors.Matrices() {
			mats, params = append(mats, params[0].leaf), params[1:]
		}
		for range constantsOf(w.Factors) {
			vectors, fixed = append(vectors, fixed[0].leaf), fixed[1:]
		}
		linears[w.Name] = e.ops.newLinear(w.Factors, mats, vectors, e.drawn.rows)
	}
	return linears
}

// masters returns the leaves of e.params by name.
func (e *Engine) masters() map[string]ggml.Tensor {
	masters := map[string]ggml.Tensor{}
	for _, p := range e.params {
		masters[p.name] = p.leaf
	}
	return masters
}

// build makes the body, forward and backward, and the head from the traced nodes.
func (e *Engine) build(set trainedSet, o Options) (err error) {
	set.totals = map[ggml.Tensor]ggml.Tensor{}
	for _, p := range e.params {
		set.totals[p.leaf] = p.total
	}
	arch, nodes := e.model.Arch(), e.trace.nodes
	split, err := splitHead(arch, nodes)
	if err != nil {
		return err
	}
	hidden := nodes[split].Src(1)
	e.head, err = newHead(e.backend, headSpec{arch: arch, ops: e.ops, trained: set, nodes: nodes[split:], hidden: hidden, maxRows: e.shape.tokens(), options: o})
	if err != nil {
		return err
	}
	e.make = func(r recomputeLevel) (*body, error) {
		return newBody(bodySpec{arch: arch, shape: e.shape, ops: e.ops, trained: set, nodes: nodes[:split], hidden: hidden,
			recompute: r, statistics: e.statisticsLeaves, forwardOnly: o.ForwardOnly})
	}
	if e.body, err = e.make(o.recompute); err != nil {
		return err
	}
	if e.keepAll = o.keepAll; e.keepAll {
		e.keepEveryNode()
	}
	e.canPage = e.model.DropFiles(e.allWeights())
	return nil
}

// Allocate takes the memory that Sizes reports, and gives back that of the trace. After it the engine computes.
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
	e.targets, e.weights = make([]int32, e.shape.tokens()), make([]float32, e.shape.tokens())
	e.Upload()
	e.Reset()
	for _, c := range e.constants {
		c.leaf.SetFloats(c.data)
	}
	for _, sum := range e.statisticsLeaves {
		clear(sum.Floats())
	}
	return e.cutIntoRuns()
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
	if e.leaves != nil {
		e.leaves.Close()
	}
	if e.leafMemory != nil {
		e.leafMemory.Close()
	}
	if e.backend != nil {
		err = errors.Join(err, e.backend.Close())
	}
	return err
}

// Shape returns the shape of the batches.
func (e *Engine) Shape() Shape { return e.shape }

// SetThreads sets the number of threads of the next steps, at most Options.Threads. No result depends on it.
func (e *Engine) SetThreads(n int) { e.backend.SetThreads(n) }

// Upload copies the trainable parameters from the caller's memory to where the graph reads them.
func (e *Engine) Upload() {
	for _, p := range e.params {
		p.leaf.SetFloats(p.data)
		if p.warms && e.lessChange > 0 {
			share := 1 - e.lessChange
			values := p.leaf.Floats()
			for i := range values {
				values[i] *= share
			}
		}
	}
}

// SetChangeShare multiplies every ΔW by a share from 0 to 1 from the next Upload on, by way of a factor that ΔW is
// proportional to: ReLU(f·M) = f·ReLU(M) for f ≥ 0. The gradient of that factor becomes the one by what the graph reads:
// with y = f·x it is dL/dy, and f times that by x.
func (e *Engine) SetChangeShare(share float32) { e.lessChange = 1 - share }

// SetDraw says by which draw the next calls of Step choose the tokens of Options.MagnitudeEvery. The same draw chooses the same.
func (e *Engine) SetDraw(n int) { e.drawn.by = n }

// Gradient is the gradient of one trainable tensor, summed over the calls of Step since the last Reset.
type Gradient struct {
	Name string    // "<weight>.<suffix>" of a factor, the base's name of a master
	Data []float32 // in the order of the elements; the Engine's own memory, until Close
}

// Gradients returns the gradients of all factors, in the order of the weights and of their matrices, or of all masters.
// Every call returns the same memory.
func (e *Engine) Gradients() []Gradient {
	var all []Gradient
	for _, p := range e.params {
		all = append(all, Gradient{p.name, p.total.Floats()})
	}
	return all
}

// GradientsOf returns the data of Gradients by name, in the order asked. To ask for a name that is not trained, or not
// for all that are, is a mistake of the caller's and panics: its optimizer would move one tensor by another's gradient.
func (e *Engine) GradientsOf(names []string) [][]float32 {
	byName := map[string][]float32{}
	for _, g := range e.Gradients() {
		byName[g.Name] = g.Data
	}
	var all [][]float32
	for _, name := range names {
		data, ok := byName[name]
		if !ok {
			panic(fmt.Sprintf("internal error: graph: the gradient of %q is not there, or asked for twice", name))
		}
		delete(byName, name)
		all = append(all, data)
	}
	if len(byName) > 0 {
		panic(fmt.Sprintf("internal error: graph: the gradients of %d trained tensors are asked for, want those of all %d", len(names), len(e.params)))
	}
	return all
}

// Unreached lists the parameters that no gradient reaches: of weights that llama.cpp's graph does not adapt, or of tensors
// that it does not read.
func (e *Engine) Unreached() []string {
	var names []string
	for _, p := range e.params {
		if !e.body.reached[p.leaf] && !e.head.reached[p.leaf] {
			names = append(names, p.name)
		}
	}
	return names
}

// Reset sets the summed gradients to zero.
func (e *Engine) Reset() {
	e.drawn.passes = 0
	for _, p := range e.params {
		clear(p.total.Floats())
	}
}

// Step adds the gradient of scale·Σ weight·nll over the windows, Shape.Seqs of Shape.Ctx tokens, to the summed gradients;
// weight is a window's LossMask. It returns Σ weight·nll, not scaled. With scale = 1/Σ weight over all windows of an
// optimizer step, the sums are the gradient of the mean loss over the step's trained tokens, however many calls it takes.
func (e *Engine) Step(windows []data.Window, scale float32) (float64, error) {
	return e.StepToward(windows, nil, scale)
}

// StepToward does what Step does for an Engine with Options.Teacher, with the loss of kernels.Distill in the place of nll:
// against the probabilities that the same head makes of a teacher's hidden states [n_embd, N], which Hidden returns.
func (e *Engine) StepToward(windows []data.Window, teacher []float32, scale float32) (float64, error) {
	e.drawn.next(e.shape.tokens())
	clear(e.seed.Floats())
	loss, err := e.run(windows, teacher, e.seed.Floats(), scale)
	if err != nil || len(e.rows) == 0 {
		return loss, err
	}
	e.count()
	return loss, e.compute(e.reverse)
}

// Loss returns Σ weight·nll over the windows, as Step does, without gradients.
func (e *Engine) Loss(windows []data.Window) (float64, error) { return e.run(windows, nil, nil, 1) }

// Hidden returns the state that the output matrix reads, [n_embd, N], for every position of the windows. It is the Engine's
// own memory and holds until the next call.
func (e *Engine) Hidden(windows []data.Window) ([]float32, error) {
	if err := e.load(windows); err != nil {
		return nil, err
	}
	return e.hidden.Floats(), e.compute(e.forward)
}

// run computes the forward pass and the head: the loss, and with a seed [n_embd, N] its derivative by the hidden state.
func (e *Engine) run(windows []data.Window, teacher, seed []float32, scale float32) (float64, error) {
	if (teacher != nil) == e.head.teacher.IsNil() {
		panic("internal error: graph: a step with a teacher needs an engine for it, and the other way round")
	}
	hidden, err := e.Hidden(windows)
	if err != nil {
		return 0, err
	}
	in := headInput{hidden: hidden, teacher: teacher, rows: e.rows, targets: e.targets, weights: e.weights, scale: scale}
	loss, err := e.head.run(e.backend, in, seed)
	e.model.DropWeights(e.paged)
	return loss, err
}

// load writes a batch into the input leaves and lists its trained rows.
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
		copy(e.weights[s*e.shape.Ctx:], w.LossMask)
		for i, weight := range w.LossMask {
			if weight != 0 {
				e.rows = append(e.rows, s*e.shape.Ctx+i)
			}
		}
	}
	for _, in := range e.inputs {
		if in.leaf.HasData() { // the allocator gives no memory to a leaf that no node reads
			in.fill(e.shape, windows)
		}
	}
	return nil
}
