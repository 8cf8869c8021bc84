package trainer

import (
	"fmt"
	"maps"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/model"
	"finetune/quant"
	"finetune/run"
	"finetune/trainer/graph"
	"finetune/trainer/optim"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// trainable is what a run trains: an adapter over the base, or the base's own tensors.
type trainable interface {
	// params describes the trainable parameters to the optimizer and to checkpoints; values are their data, which the
	// engine reads too.
	params() (params []optim.Param, values [][]float32)
	// prepare builds the training graph, which takes no memory yet. The model has to stay open as long as the engine.
	prepare(m *llama.Model, o graph.Options) (*graph.Engine, error)
	// statistics describes the activation statistics that the engine gathers, see graph.Engine.Statistics.
	statistics() []optim.Param
	// size returns how many tensors of the base are trained or adapted, and the number of trainable parameters.
	size() (tensors, parameters int)
	// unreached returns the error for a parameter that no gradient reaches.
	unreached(param string) error
	// leaner returns a hint for a user with too little memory.
	leaner() string
	// start replaces the fresh values by those of the adapter that the run goes on from, and reports whether there is one.
	start() bool
	// save writes the result of the run, atomically, with its origin where the result has a place for it.
	save(path string, origin map[string]gguf.Value) error
}

// newTrainable starts what is trained over a base.
func newTrainable(base *model.Base, c run.Config, fromStart bool) (trainable, error) {
	if c.Method == run.MethodFull {
		f, err := newFull(base, c)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
	a, err := newAdapter(base, c, fromStart)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// adapterTrainable trains an adapter.
type adapterTrainable struct {
	*adapter.Adapter
	recipe   adapter.Recipe
	targets  string           // as the user wrote them
	every    int              // see run.Config.MagnitudeEvery
	initial  *adapter.Adapter // that the training goes on from; nil: fresh factors
	task     Task             // what is learned; a classifier is trained beside the factors …
	headRate float64          // … at this learning rate, as a share of theirs
}

// newAdapter chooses the adapted weights and starts their factors so that they change nothing; for some methods that reads
// the base's weights.
func newAdapter(base *model.Base, c run.Config, fromStart bool) (*adapterTrainable, error) {
	id, err := base.Identity()
	if err != nil {
		return nil, err
	}
	targets, err := adapter.ParseTargets(c.Targets)
	if err != nil {
		return nil, err
	}
	selected, err := targets.Select(base.Used())
	if err != nil {
		return nil, err
	}
	for _, t := range selected {
		if scale := base.ScaleApart(t.Name); scale != "" {
			return nil, hint.With(fmt.Errorf("trainer: model %q: tensor %q has a scale apart, %q, beside which no adapter is trained", base.Path(), t.Name, scale),
				"llama.cpp's tools write other types without such scales")
		}
	}
	a, err := c.Recipe().Build(selected)
	if err != nil {
		return nil, err
	}
	a.Architecture, a.BaseName, a.BaseHash = id.Architecture, id.Name, id.Hash
	if err := a.Bind(base.File, quant.Decode); err != nil {
		return nil, err
	}
	if err := c.Recipe().Init(a, c.Seed, base.File, quant.Decode); err != nil {
		return nil, err
	}
	t := &adapterTrainable{Adapter: a, recipe: c.Recipe(), targets: c.Targets, every: c.MagnitudeEvery}
	if fromStart && c.InitFrom != "" {
		t.initial, err = loadInitial(a, id, c)
	}
	return t, err
}

func (a *adapterTrainable) params() (params []optim.Param, values [][]float32) {
	params, values = AdapterParams(a.Adapter, a.recipe)
	if a.task.Head != nil {
		p, v := headParams(a.task.Head, a.headRate)
		params, values = append(params, p...), append(values, v...)
	}
	return params, values
}

// AdapterParams describes the factors of an adapter to an optimizer; values are their data.
func AdapterParams(a *adapter.Adapter, r adapter.Recipe) (params []optim.Param, values [][]float32) {
	for _, t := range a.Tensors() {
		params = append(params, optim.Param{Name: t.Name, Len: len(t.Mat.Data), LRScale: r.RateOf(t.Suffix), NoDecay: t.NoDecay, Warms: t.Warms})
		values = append(values, t.Mat.Data)
	}
	return params, values
}

func (a *adapterTrainable) prepare(m *llama.Model, o graph.Options) (*graph.Engine, error) {
	o.MagnitudeEvery = a.every
	return graph.Prepare(m, a.Weights, a.task.Options(o))
}

func (a *adapterTrainable) statistics() (all []optim.Param) {
	for _, w := range a.Weights {
		nIn, nOut := w.Shape()
		all = append(all, optim.Param{Name: w.Name + graph.SuffixInputs, Len: nIn}, optim.Param{Name: w.Name + graph.SuffixOutputs, Len: nOut})
	}
	return all
}

func (a *adapterTrainable) size() (tensors, parameters int) {
	parameters = a.Parameters()
	if h := a.task.Head; h != nil {
		parameters += len(h.Weights) + len(h.Biases)
	}
	return len(a.Weights), parameters
}

func (a *adapterTrainable) unreached(param string) error {
	return fmt.Errorf("trainer: targets %q: %q is not used by the model's graph in a way that can be trained", a.targets, param)
}

func (a *adapterTrainable) leaner() string {
	return "fewer --targets or a smaller --rank need less"
}

func (a *adapterTrainable) start() bool {
	if a.initial == nil {
		return false
	}
	for i, w := range a.initial.Weights {
		for k, m := range w.Matrices() {
			copy(a.Weights[i].Matrices()[k].Mat.Data, m.Mat.Data)
		}
	}
	a.initial = nil
	return true
}

func (a *adapterTrainable) save(path string, origin map[string]gguf.Value) error {
	maps.Copy(a.Meta, origin)
	if a.task.Head != nil {
		if err := saveHead(a.task.Head, path); err != nil {
			return err
		}
	}
	return a.Save(path)
}
