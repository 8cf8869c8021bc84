// Package native loads base models in llama.cpp, which maps their files, and copies what a device holds into its memory.
package native

import (
	"errors"
	"fmt"
	"strings"

	"finetune/device"
	"finetune/internal/hint"
	"finetune/model"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// Load loads a base that was opened, to where on says, and looks at its weights meanwhile: see model.Base.CheckWeights. The
// result is the caller's to close, before or after the base. A base that the device has no room for is an error that says how
// many layers it would hold.
func Load(base *model.Base, on device.Placement) (*llama.Model, error) {
	if err := checkRoom(base, on); err != nil {
		return nil, err
	}
	checked := make(chan error, 1)
	go func() { checked <- base.CheckWeights() }()
	m, err := llama.LoadModel(base.Path(), on.Params())
	damage := <-checked
	switch {
	case err != nil && !on.OnCPU() && strings.Contains(err.Error(), "unable to allocate"): // llama.cpp's words, which has no code for it
		return nil, hint.With(err, fewerLayers(base, on))
	case err != nil:
		return nil, err
	case damage != nil:
		return nil, errors.Join(damage, m.Close())
	}
	return m, nil
}

// Open opens a base by its path and loads it on the CPU, for who needs no more of its header.
func Open(path string) (*llama.Model, error) {
	base, err := model.Open(path)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	return Load(base, device.Placement{})
}

// CheckContext refuses a context that the base was not made for.
func CheckContext(m *llama.Model, ctx int) error {
	if limit := m.NCtxTrain(); limit > 0 && ctx > limit {
		return hint.With(fmt.Errorf("ctx %d: the model %q was trained on at most %d tokens", ctx, m.Path(), limit),
			fmt.Sprintf("--ctx %d is the most that it takes", limit))
	}
	return nil
}
