package graph

import (
	"errors"
	"fmt"

	"finetune/adapter"
	"finetune/classify"
	"finetune/device"

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
	shape   Shape
	ops     opSets
	model   *llama.Model
	backend *ggml.Backend // the CPU, the first of the sides
	sides
	drawn            draw
	stores           [2]stores // of what no allocator gives memory, by place
	params           []param
	lessChange       float32 // 1 − the share of ΔW that counts
	constants        []constant
	statisticsLeaves map[string]ggml.Tensor           // activation statistics by name, see Statistics
	sums             map[ggml.Tensor]*mirror[float32] // theirs
	tokens           int64                            // that the statistics are over
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

	hiddenState, seedState mirror[float32] // of the body
	lossScale              float32         // factor of all derivatives on the way to the gradients, see Collect

	contrast *contrast // nil: the loss is the head's
	pooling  *pooling  // what documents' states become for a classifier; nil: each row is read for itself

	rows    []int     // scratch: indices of trained rows
	targets []int32   // scratch: [N]
	weights []float32 // scratch: [N]
}

// Options of an Engine.
type Options struct {
	Shape   Shape
	Threads int
	// On says which of the base's layers are trained on a device beside the CPU. The base itself stays where it is: the engine has
	// copies of the weights there.
	On device.Placement
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
	// Classes puts a classifier in the place of the output matrix, which an encoder has none of.
	Classes *Classes
	// Contrast puts a loss between the states of texts in the place of that of tokens.
	Contrast *Contrast
}

// pooling returns what the options ask for; PoolLast is none.
func (o Options) pooling() classify.Pooling {
	switch {
	case o.Classes != nil:
		return o.Classes.Pooling
	case o.Contrast != nil:
		return o.Contrast.Pooling
	}
	return classify.PoolLast
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
			params = append(params, param{name: w.Name + "." + m.Suffix, weight: w.Name, ne: ne, data: m.Mat.Data, warms: m.Warms})
		}
		for _, data := range constantsOf(w.Factors) {
			fixed = append(fixed, constant{weight: w.Name, data: data})
		}
	}
	return open(model, params, fixed, targets, o, func(e *Engine) trainedSet { return trainedSet{linears: e.linears(weights)} })
}

// PrepareFull builds the training graph of a model whose own tensors are trained: where llama.cpp's graph reads one of
// them, ours reads the master instead, whatever the tensor's type. Otherwise it does what Prepare does.
func PrepareFull(model *llama.Model, masters []Master, o Options) (*Engine, error) {
	var params []param
	for _, m := range masters {
		params = append(params, param{name: m.Name, weight: m.Name, ne: m.Shape, data: m.Data})
	}
	return open(model, params, nil, nil, o, func(e *Engine) trainedSet { return trainedSet{masters: e.masters()} })
}

// open makes the leaves of the params, lets llama.cpp build its graph with adapters on the targets, and turns that into
// the training graph. newSet is called once the leaves exist.
func open(model *llama.Model, params []param, fixed []constant, targets []target, o Options, newSet func(*Engine) trainedSet) (_ *Engine, err error) {
	if o.Shape.Ctx < 1 || o.Shape.Seqs < 1 {
		return nil, fmt.Errorf("graph: a batch of %d sequences of %d tokens, want at least 1 of each", o.Shape.Seqs, o.Shape.Ctx)
	}
	if o.Classes != nil {
		params = append(params, o.Classes.params()...)
	}
	e := &Engine{shape: o.Shape, model: model, params: params, constants: fixed}
	if p := o.pooling(); p != classify.PoolLast {
		e.pooling = &pooling{first: p == classify.PoolFirst}
	}
	defer func() {
		if err != nil {
			e.Close()
		}
	}()
	if err := e.openSides(o); err != nil {
		return nil, err
	}
	var gathered []target
	if o.Statistics {
		gathered = targets
	}
	if e.trace, err = newTrace(model, o.Shape, targets); err != nil {
		return nil, err
	}
	if err := e.openHomes(o); err != nil {
		return nil, err
	}
	if err := e.newLeaves(gathered, o); err != nil {
		return nil, err
	}
	if err := e.build(newSet(e), o); err != nil {
		return nil, err
	}
	return e, nil
}

// build makes the body, forward and backward, and the head from the traced nodes.
func (e *Engine) build(set trainedSet, o Options) (err error) {
	set.totals = map[ggml.Tensor]ggml.Tensor{}
	for _, p := range e.params {
		set.totals[p.leaf] = p.total
	}
	if o.Classes != nil {
		set.masters = e.masters() // of which the traced graph reads none, if an adapter is trained
	}
	arch, nodes, encodes := e.model.Arch(), e.trace.nodes, e.trace.encodes
	split, hidden, err := e.trace.splitHead(arch)
	if err != nil {
		return err
	}
	if o.Contrast != nil {
		e.contrast = newContrast(*o.Contrast, hidden)
	}
	e.head, err = newHead(headSpec{arch: arch, sides: &e.sides, ops: e.ops, trained: set, nodes: nodes[split:], hidden: hidden, maxRows: e.shape.tokens(), options: o})
	if err != nil {
		return err
	}
	e.make = func(r recomputeLevel) (*body, error) {
		return newBody(bodySpec{arch: arch, shape: e.shape, sides: &e.sides, ops: e.ops, trained: set, nodes: nodes[:split], hidden: hidden,
			recompute: r, statistics: e.statisticsLeaves, forwardOnly: o.ForwardOnly, cacheless: encodes})
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
	if e.homes != nil {
		err := e.homes.fill(e.backends[onDevice], func(w ggml.Tensor) { e.model.DropWeights([]ggml.Tensor{w}) })
		if err != nil {
			return err
		}
	}
	if e.alloc, err = e.allocate(e.body.placed); err != nil {
		return err
	}
	if err := e.head.allocate(&e.sides); err != nil {
		return err
	}
	e.openMirrors()
	e.targets, e.weights = make([]int32, e.shape.tokens()), make([]float32, e.shape.tokens())
	e.Upload()
	e.Reset()
	for _, c := range e.constants {
		e.note(0, c.leaf.SetFloats(c.data))
	}
	if e.failed != nil {
		return e.failed
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
	closeRuns(e.forward)
	closeRuns(e.reverse)
	e.forward, e.reverse = nil, nil
	if e.alloc != nil {
		e.alloc.Close()
	}
	if e.body != nil {
		e.body.close()
	}
	for _, s := range e.stores {
		s.close()
	}
	return errors.Join(err, e.sides.close())
}

// Shape returns the shape of the batches.
func (e *Engine) Shape() Shape { return e.shape }
