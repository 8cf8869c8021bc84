package trainer

import (
	"errors"
	"fmt"
	"maps"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/quant"
	"finetune/trainer/graph"

	llama "github.com/go-skynet/go-llama.cpp"
)

// learner is what a run trains: an adapter over the base, or the base's own tensors.
type learner interface {
	// params describes the trained tensors to the optimizer and to checkpoints; values are their data, which the engine
	// reads too.
	params() (params []Param, values [][]float32)
	// prepare builds the training graph, which takes no memory yet. The model has to stay open as long as the engine.
	prepare(m *llama.Model, o graph.Options) (*graph.Engine, error)
	// observed are the statistics that the engine gathers, see graph.Engine.Squares.
	observed() []Param
	// size is how many tensors of the base are trained, and how many numbers that takes.
	size() (tensors, numbers int)
	// unreached is what is wrong where no gradient reaches one of the params.
	unreached(param string) error
	// leaner is a hint for who has too little memory.
	leaner() string
	// base identifies the model.
	base() string
	// save writes the result of the run, atomically, with its origin where the result has a place for it.
	save(path string, origin map[string]gguf.Value) error
	// close frees what is held of the base. The values stay.
	close() error
}

// newLearner reads the base's header, and with MethodFull its weights.
func newLearner(c Config) (learner, error) {
	if c.Method == MethodFull {
		f, err := newFull(c)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
	f, err := OpenBase(c.Model)
	if err != nil {
		return nil, err
	}
	a, err := newAdapter(c, f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &factors{a, c.Targets, f}, nil
}

// factors trains an adapter.
type factors struct {
	*adapter.Adapter
	targets string     // as the user wrote them
	file    *gguf.File // the base, which the adapter may be bound to; nil where it is not
}

// newAdapter reads the base's header and starts the factors, for which some methods read its weights.
func newAdapter(c Config, f *gguf.File) (*adapter.Adapter, error) {
	base, err := adapter.ReadBase(f)
	if err != nil {
		return nil, err
	}
	targets, err := adapter.ParseTargets(c.Targets)
	if err != nil {
		return nil, err
	}
	selected, err := targets.Select(f.Tensors())
	if err != nil {
		return nil, err
	}
	a, err := adapter.Build(adapter.Method(c.Method), c.Rank, float32(c.Alpha), selected)
	if err != nil {
		return nil, err
	}
	a.Architecture, a.BaseName, a.BaseHash = base.Architecture, base.Name, base.Hash
	if err := a.Bind(f, quant.Decode); err != nil {
		return nil, err
	}
	a.Init(c.Seed)
	return a, nil
}

func (f *factors) params() (params []Param, values [][]float32) {
	for _, t := range f.Tensors() {
		params = append(params, Param{Name: t.Name, Len: len(t.Mat.Data), LRScale: 1, NoDecay: t.NoDecay})
		values = append(values, t.Mat.Data)
	}
	return params, values
}

func (f *factors) prepare(m *llama.Model, o graph.Options) (*graph.Engine, error) {
	return graph.Prepare(m, f.Weights, o)
}

func (f *factors) observed() (all []Param) {
	for _, w := range f.Weights {
		nIn, nOut := w.Shape()
		all = append(all, Param{Name: w.Name + graph.SuffixInputs, Len: nIn}, Param{Name: w.Name + graph.SuffixOutputs, Len: nOut})
	}
	return all
}

func (f *factors) size() (tensors, numbers int) { return len(f.Weights), f.Parameters() }

func (f *factors) unreached(param string) error {
	return fmt.Errorf("trainer: targets %q: %q is not used by the model's graph in a way that can be trained", f.targets, param)
}

func (f *factors) leaner() string {
	return "fewer --targets or a smaller --rank need less"
}

func (f *factors) base() string { return f.BaseHash }

func (f *factors) save(path string, origin map[string]gguf.Value) error {
	maps.Copy(f.Meta, origin)
	return f.Save(path)
}

func (f *factors) close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}
