package trainer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"finetune/adapter"
	"finetune/convert"
	"finetune/internal/atomicfile"
	"finetune/internal/hint"
	"finetune/model"
	"finetune/run"
)

// FollowInitial returns the settings with method, rank, alpha and targets of the adapter that c.InitFrom names, but for
// those that the user has set. Without InitFrom they stay as they are.
func FollowInitial(c run.Config, set func(key string) bool) (run.Config, error) {
	if c.InitFrom == "" {
		return c, nil
	}
	base, err := model.Open(c.Model)
	if err != nil {
		return c, err
	}
	defer base.Close()
	a, err := readInitial(c.InitFrom, c.Model)
	if err != nil {
		return c, err
	}
	if !set("method") {
		c.Method = string(a.Method())
	}
	if !set("rank") {
		c.Rank = a.Rank()
	}
	if !set("alpha") {
		c.Alpha = float64(a.Alpha())
	}
	if rank := magnitudeRank(a.Weights[0].Factors); rank != 0 && !set("magnitude-rank") && rank != c.Recipe().MagnitudeRanks() {
		c.MagnitudeRank = rank
	}
	if !set("targets") {
		c.Targets = a.Targets(base.Used())
	}
	return c, nil
}

// readInitial reads the adapter at path: a file, a run directory or a folder of PEFT's or MLX's.
func readInitial(path, modelPath string) (*adapter.Adapter, error) {
	if convert.IsFolder(path) {
		dir, remove, err := atomicfile.Scratch()
		if err != nil {
			return nil, err
		}
		defer remove()
		file := filepath.Join(dir, "init.gguf")
		if _, err := convert.Run(convert.Config{From: path, To: convert.GGUF, Model: modelPath, Out: file, AdapterOnly: true}); err != nil {
			return nil, err
		}
		return adapter.Load(file)
	}
	file, err := run.AdapterPath(path)
	if err != nil {
		return nil, err
	}
	a, err := adapter.Load(file)
	if errors.Is(err, os.ErrNotExist) && file != path {
		err = hint.With(err, "a run that was interrupted has no adapter yet: finish it with finetune train --resume")
	}
	return a, err
}

// loadInitial reads the adapter that the training of fresh goes on from, and refuses it where it is not one like fresh: of
// the same base, method, scale, weights and ranks.
func loadInitial(fresh *adapter.Adapter, base model.Identity, c run.Config) (*adapter.Adapter, error) {
	a, err := readInitial(c.InitFrom, c.Model)
	if err != nil {
		return nil, err
	}
	refuse := func(advice, format string, args ...any) error {
		err := fmt.Errorf("trainer: init-from %q: %s", c.InitFrom, fmt.Sprintf(format, args...))
		if advice == "" {
			return err
		}
		return hint.With(err, advice)
	}
	if err := a.CheckBase(base); err != nil && !errors.Is(err, adapter.ErrOtherWeights) { // another quantization will do
		return nil, refuse("--init-from goes on with an adapter of the same base", "%v", err)
	}
	if a.Method() != fresh.Method() {
		return nil, refuse(fmt.Sprintf("--method %s goes on with it", a.Method()), "holds a %s adapter, want %s", a.Method(), fresh.Method())
	}
	if len(a.Weights) != len(fresh.Weights) {
		return nil, refuse("leave --targets out to train what it is on", "is on %d matrices, targets %q are %d", len(a.Weights), c.Targets, len(fresh.Weights))
	}
	for i, w := range a.Weights {
		want := fresh.Weights[i]
		switch {
		case w.Name != want.Name:
			return nil, refuse("leave --targets out to train what it is on", "is on %q, targets %q on %q", w.Name, c.Targets, want.Name)
		case w.Rank() != want.Rank() && a.Rank() != want.Rank():
			return nil, refuse(fmt.Sprintf("--rank %d goes on with it", a.Rank()), "has rank %d, want %d", w.Rank(), want.Rank())
		case w.Rank() != want.Rank():
			return nil, refuse(fmt.Sprintf("finetune adapter rerank --rank %d makes it of one rank", a.Rank()), "has rank %d for %q and %d at most: want one rank", w.Rank(), w.Name, a.Rank())
		case magnitudeRank(w.Factors) != magnitudeRank(want.Factors):
			rank := magnitudeRank(w.Factors)
			return nil, refuse(fmt.Sprintf("--magnitude-rank %d goes on with it", rank), "has a magnitude of rank %d, want %d", rank, magnitudeRank(want.Factors))
		case w.Scale() != want.Scale():
			return nil, refuse(fmt.Sprintf("--alpha %v goes on with it", a.Alpha()), "scale %v, want %v", w.Scale(), want.Scale())
		}
	}
	return a, nil
}

// magnitudeRank returns r1 of a Dual LoRA, 0 of another method.
func magnitudeRank(f adapter.Factors) int {
	if d, ok := f.(*adapter.Dual); ok {
		return d.A.NE[1]
	}
	return 0
}
