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

// attached is an adapter on an evaluator's context.
type attached struct {
	*llama.Adapter
	scale float32
}

// Attach puts the adapter in path on the context with a scale, beside those that are attached already: a GGUF LoRA as it
// is, a run directory or a file of another method by its exact form. The result detaches it and leaves
// the others. One whose exact form is more
// than half of the memory that the process can take is an ErrExactTooLarge.
func (e *Evaluator) Attach(path string, scale float32) (detach func() error, err error) {
	file, remove, err := loadable(path, e.model.Path(), e.exact)
	if err != nil {
		return nil, err
	}
	defer remove() // llama.cpp has read it all by then
	loaded, err := llama.LoadAdapter(e.model, file)
	if err != nil {
		return nil, err
	}
	a := &attached{loaded, scale}
	if err := e.ctx.SetAdapter(a.Adapter, a.scale); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	e.attached = append(e.attached, a)
	return func() error { return e.detach(a) }, nil
}

// detach takes one adapter off the context. llama.cpp's context can only be cleared of all of them: the others are put
// back.
func (e *Evaluator) detach(a *attached) error {
	e.attached = slices.DeleteFunc(e.attached, func(other *attached) bool { return other == a })
	e.ctx.ClearAdapters()
	var errs []error
	for _, other := range e.attached {
		errs = append(errs, e.ctx.SetAdapter(other.Adapter, other.scale))
	}
	return errors.Join(append(errs, a.Close())...)
}

// ErrExactTooLarge is what errors.Is finds in the error of Attach for an adapter that llama.cpp cannot take.
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
