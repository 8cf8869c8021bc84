package eval

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/atomicfile"
	"finetune/internal/hint"
	"finetune/internal/machine"
	"finetune/model"
	"finetune/quant"
	"finetune/run"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Adapter is one that is loaded for an evaluator, whether it is in use or not.
type Adapter struct{ loaded *llama.Adapter }

// Close frees the adapter, which must not be in use.
func (a *Adapter) Close() error { return a.loaded.Close() }

// Scaled is an adapter with the scale that it is applied with, on top of its own alpha / rank.
type Scaled struct {
	*Adapter
	Scale float32
}

// Load loads the adapter in path without using it: a GGUF LoRA as it is, a run directory or a file of another method by its exact
// form. The caller closes it, before the evaluator's model. One whose exact form is more than half of the memory that the process
// can take is an ErrExactTooLarge.
func (e *Evaluator) Load(path string) (*Adapter, error) {
	file, remove, err := loadable(path, e.model.Path(), e.exact)
	if err != nil {
		return nil, err
	}
	defer remove() // llama.cpp has read it all by then
	loaded, err := llama.LoadAdapter(e.model, file)
	if err != nil {
		return nil, err
	}
	return &Adapter{loaded}, nil
}

// Use has the evaluator compute with these adapters, which add up, and no others. It costs a new graph, and nothing where they
// are in use already. After an error none is in use.
func (e *Evaluator) Use(adapters ...Scaled) error {
	if slices.Equal(e.inUse, adapters) {
		return nil
	}
	e.ctx.ClearAdapters() // llama.cpp's context can only be cleared of all of them
	e.inUse = nil
	for _, a := range adapters {
		if err := e.ctx.SetAdapter(a.loaded, a.Scale); err != nil {
			e.ctx.ClearAdapters()
			return err
		}
	}
	e.inUse = slices.Clone(adapters)
	return nil
}

// Attach loads the adapter in path as Load does and uses it with a scale beside those in use already. detach takes it off again,
// leaves the others, and closes it.
func (e *Evaluator) Attach(path string, scale float32) (detach func() error, err error) {
	a, err := e.Load(path)
	if err != nil {
		return nil, err
	}
	if err := e.Use(append(slices.Clone(e.inUse), Scaled{a, scale})...); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return func() error {
		others := slices.DeleteFunc(slices.Clone(e.inUse), func(other Scaled) bool { return other.Adapter == a })
		return errors.Join(e.Use(others...), a.Close())
	}, nil
}

// ErrExactTooLarge is what errors.Is finds in the error of Load and Attach for an adapter that llama.cpp cannot take.
var ErrExactTooLarge = errors.New("llama.cpp takes what is no LoRA by its exact form, which is too large")

// loadable returns a file that llama.cpp loads for an adapter of any kind; remove deletes it if it was made for this. An
// exact form of more than limit bytes is not made; 0 = no limit.
func loadable(path, modelPath string, limit int64) (file string, remove func(), err error) {
	if path, err = run.AdapterPath(path); err != nil {
		return "", nil, err
	}
	a, err := adapter.Load(path)
	if err != nil {
		return "", nil, err
	}
	if a.Method() == adapter.MethodLoRA {
		return path, func() {}, nil
	}
	if bytes := a.ExactBytes(); limit > 0 && bytes > limit {
		return "", nil, hint.With(fmt.Errorf("eval: adapter %q: %w: %d MiB, and at most half of the memory that this process can take, %d MiB, is given to it",
			path, ErrExactTooLarge, machine.Mebibytes(bytes), machine.Mebibytes(limit)), "finetune export makes a GGUF LoRA of a run")
	}
	base, err := model.Open(modelPath)
	if err != nil {
		return "", nil, err
	}
	defer base.Close()
	if err := a.Bind(base.File, quant.Decode); err != nil {
		return "", nil, err
	}
	dir, remove, err := atomicfile.Scratch()
	if err != nil {
		return "", nil, err
	}
	file = filepath.Join(dir, "exact.gguf")
	if err := a.WriteExact(file, adapter.LoRAOptions{Type: gguf.TypeF32}); err != nil {
		remove()
		return "", nil, err
	}
	return file, remove, nil
}
