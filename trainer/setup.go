package trainer

import (
	"context"
	"errors"
	"fmt"

	"finetune/chat"
	"finetune/classify"
	"finetune/device"
	"finetune/eval"
	"finetune/internal/hint"
	"finetune/internal/machine"
	"finetune/model"
	"finetune/model/native"
	"finetune/run"
	"finetune/trainer/data"
	"finetune/trainer/graph"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/llama"
)

// setup is what a run works with: all that can be wrong with the base, the data or their fit shows while it is made.
type setup struct {
	config    run.Config
	on        device.Placement // of the layers that are trained on a device
	base      *model.Base
	id        model.Identity // of the base
	model     *llama.Model
	trainable trainable
	train     *data.Windows
	val       *data.Windows // nil: nothing is held out
	engine    *graph.Engine
	sketch    *sketch // of the start by gradients, until it is found; nil: there is none
	plan      Plan
	headNote  string               // of a classifier that goes on; empty: none does
	valTuner  *machine.ThreadTuner // of validations, which are less work a sequence than steps
}

// newSetup checks what is cheap first: the header of the base, the targets and the rank, then the data, then the graph. The
// memory of the run is planned when it returns, and nothing of it taken. fromStart says that no step was taken yet.
func newSetup(ctx context.Context, c run.Config, fromStart bool, report func(data.Progress)) (*setup, error) {
	return newSetupOf(ctx, c, c.Model, fromStart, report)
}

// newRehearsal does what newSetup does for a run that is not to leave anything behind, such as the tokens of its data in the cache.
func newRehearsal(ctx context.Context, c run.Config, report func(data.Progress)) (*setup, error) {
	return newSetupOf(ctx, c, "", true, report)
}

// newSetupOf does what newSetup does; tokensOf is the model by which data that has tokens in the cache is known, empty for none.
func newSetupOf(ctx context.Context, c run.Config, tokensOf string, fromStart bool, report func(data.Progress)) (_ *setup, err error) {
	s := &setup{config: c, valTuner: machine.NewThreadTuner(c.ThreadCount())}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.on, err = placement(c); err != nil {
		return nil, err
	}
	if s.base, err = model.Open(c.Model); err != nil {
		return nil, err
	}
	if s.id, err = s.base.Identity(); err != nil {
		return nil, err
	}
	if s.trainable, err = newTrainable(s.base, c, fromStart); err != nil {
		return nil, err
	}
	if err = s.checkTask(); err != nil {
		return nil, err
	}
	if err = s.checkOpening(); err != nil {
		return nil, err
	}
	if s.model, err = native.Load(s.base, device.Placement{}); err != nil {
		return nil, err
	}
	if err := native.CheckContext(s.model, c.Ctx); err != nil {
		return nil, err
	}
	read := c
	read.Model = tokensOf
	if s.train, s.val, err = data.LoadRun(ctx, read, s.model.Vocab(), chat.SourceOf(s.model), report); err != nil {
		return nil, err
	}
	if err := s.addTask(fromStart); err != nil {
		return nil, err
	}
	if err := s.newEngine(); err != nil {
		return s, err
	}
	return s, s.newSketch(fromStart)
}

func (s *setup) close() error {
	err := s.sketch.close()
	if s.engine != nil {
		err = errors.Join(err, s.engine.Close())
	}
	if s.model != nil {
		err = errors.Join(err, s.model.Close())
	}
	if s.base != nil {
		err = errors.Join(err, s.base.Close())
	}
	return err
}

// testOnlyPlacement stands in for the choice of a device, but of the CPU by its name: tests have the CPU as one, which no name chooses.
var testOnlyPlacement device.Placement

// placement returns where the run computes. A device that is not there is an error.
func placement(c run.Config) (device.Placement, error) {
	if !testOnlyPlacement.OnCPU() && c.Device != device.CPU {
		return testOnlyPlacement, nil
	}
	return device.Choose(c.Device, c.GPULayers)
}

// checkOpening refuses a base that is above the limit on memory as soon as it is opened: llama.cpp maps the whole file at
// once. What was mapped can be paged out afterwards.
func (s *setup) checkOpening() error {
	limit := s.config.MaxMemoryBytes()
	_, parameters := s.trainable.size()
	p := Plan{Weights: s.base.Bytes(), Adapter: 4 * int64(parameters), Vocabulary: s.base.VocabBytes(), Program: programBytes}
	if limit == 0 || !s.on.OnCPU() || p.Total() <= usable(limit) {
		return nil
	}
	return hint.With(&MemoryError{What: "opening the base", Plan: p, MaxMemory: limit, Given: true}, "a base quantized to fewer bits needs less")
}

// newEngine builds the training graph and plans the memory of the run. It takes none of it yet.
func (s *setup) newEngine() (err error) {
	if s.engine, s.plan, err = s.demand().Engine(); err != nil {
		return err
	}
	if names := s.engine.Unreached(); len(names) > 0 {
		return s.trainable.unreached(names[0])
	}
	return nil
}

// explained says of a run that its device had no memory for what would take less. The engine is closed then.
func (s *setup) explained(err error) error {
	if !errors.Is(err, ggml.ErrNoMemory) {
		return err
	}
	closed := s.engine.Close()
	return errors.Join(s.demand().OutOfMemory(err, s.plan), closed)
}

func (s *setup) demand() Demand {
	_, parameters := s.trainable.size()
	copies := 0
	if s.config.LR == run.AutoRate {
		copies = 1 // to be put back after the range test
	}
	if s.config.KeepsBest() {
		copies++
	}
	return Demand{Model: s.model, Encoder: classify.IsEncoder(s.base.File), On: s.on, Parameters: parameters, Leaner: s.trainable.leaner(), Vocab: s.base.VocabBytes(), Data: s.dataBytes(), Optimizer: true, Copies: copies, Statistics: s.statisticsBytes(),
		Ctx: s.config.Ctx, Batch: s.config.Batch, Threads: s.config.ThreadCount(), MaxMemory: s.config.MaxMemoryBytes(),
		Prepare: func(o graph.Options) (*graph.Engine, error) { return s.trainable.prepare(s.model, o) }}
}

// statisticsBytes returns what the activation statistics take, once.
func (s *setup) statisticsBytes() (n int64) {
	for _, p := range s.trainable.statistics() {
		n += 4 * int64(p.Len)
	}
	return n
}

// dataBytes returns what the training and validation data take.
func (s *setup) dataBytes() int64 {
	n := s.train.Bytes()
	if s.val != nil {
		n += s.val.Bytes()
	}
	return n
}

// validate returns the mean validation loss with the parameters as they are. progress is told before each window.
func (s *setup) validate(ctx context.Context, progress func(window, of int)) (eval.Loss, error) {
	n := s.validated()
	return eval.ByEngine(ctx, s.engine, s.valTuner, n, func(i int) data.Window {
		progress(i, n)
		return s.val.At(int(int64(i) * int64(s.val.Len()) / int64(n)))
	})
}

// fewMinutes is the work that a validation may take by default, in multiplications: some three minutes of two cores.
const fewMinutes = 4e13

// leastValidated and mostValidated are how many tokens a validation measures by default however large or small the model is. The
// standard error of a loss over 260,000 tokens is some thousandths.
const (
	leastValidated = 4096
	mostValidated  = 1 << 18
)

// validated returns how many of the windows held out a validation measures: all, or as many as --val-tokens allows, at least one.
func (s *setup) validated() int {
	most := s.config.ValTokens
	if most == 0 {
		most = min(mostValidated, max(leastValidated, int(fewMinutes/float64(max(1, s.model.NParams())))))
	}
	return min(s.val.Len(), max(1, most/s.config.Ctx))
}

// validationNote says that not all is measured.
func (s *setup) validationNote() []string {
	if n := s.validated(); n < s.val.Len() {
		return []string{fmt.Sprintf("a validation measures %d of the %d windows held out, evenly from all of them; --val-tokens N measures as many tokens", n, s.val.Len())}
	}
	return nil
}
