package export

import (
	"context"
	"errors"
	"path/filepath"

	"finetune/adapter"
	"finetune/classify"
	"finetune/device"
	"finetune/eval"
	"finetune/internal/machine"
	"finetune/model/native"
	"finetune/run"
	"finetune/trainer"
	"finetune/trainer/data"
	"finetune/trainer/graph"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// measureEnds finds the losses that retention is measured between: of the base, and of the adapter as it was trained.
func (x *exporter) measureEnds(ctx context.Context) (err error) {
	x.result = Result{File: x.Out, Mode: x.Mode, Method: x.run.Method, Task: x.run.Task,
		BaseLoss: eval.NotMeasured, DualLoss: eval.NotMeasured, DualLossBy: ByLlama, ExportLoss: eval.NotMeasured, Retention: eval.NotMeasured}
	if len(x.val) == 0 {
		return nil
	}
	x.say("measuring the base")
	if x.result.BaseLoss, err = x.lossOfBase(ctx); err != nil {
		return err
	}
	x.say("measuring the adapter as it was trained")
	if x.ofText() && (x.adapter.Method() == adapter.MethodLoRA || x.adapter.ExactBytes() <= x.exact) {
		x.result.DualLoss, err = x.lossWith(ctx, filepath.Join(x.Config.Run, run.AdapterFile))
		return err
	}
	x.result.DualLossBy = ByEngine
	x.result.DualLoss, err = x.lossByEngine(ctx, x.adapter)
	return err
}

// threads returns the number to compute with.
func (x *exporter) threads() int { return machine.ThreadCount(x.Threads) }

// lossByEngine returns the loss with an adapter by the training engine, which forms the ΔW of any method tile by tile.
func (x *exporter) lossByEngine(ctx context.Context, a *adapter.Adapter) (loss eval.Loss, err error) {
	e, err := x.engine(a, false, func(*graph.Options) {})
	if err != nil {
		return eval.NotMeasured, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	return eval.ByEngine(ctx, e, machine.NewThreadTuner(x.threads()), len(x.val), func(i int) data.Window { return x.val[i] })
}

// engine makes a training engine for an adapter over the base, with as many sequences at once as there is memory for. With
// optimizer it is for steps, and change has the last word on its options.
func (x *exporter) engine(a *adapter.Adapter, optimizer bool, change func(*graph.Options)) (*graph.Engine, error) {
	m, err := x.engineModel()
	if err != nil {
		return nil, err
	}
	d := trainer.Demand{Model: m, Encoder: classify.IsEncoder(x.base.File), On: x.on, Parameters: a.Parameters(), Leaner: "a smaller --rank needs less", Data: x.train.Bytes(), Optimizer: optimizer,
		Ctx: x.run.Ctx, Batch: x.run.Batch, Threads: x.threads(),
		Prepare: func(o graph.Options) (*graph.Engine, error) {
			o.Statistics = false
			o = x.task.Options(o)
			change(&o)
			return graph.Prepare(m, a.Weights, o)
		}}
	e, plan, err := d.Engine()
	if err != nil {
		return nil, err
	}
	if err := e.Allocate(); err != nil {
		closed := e.Close()
		return nil, errors.Join(d.OutOfMemory(err, plan), closed)
	}
	return e, nil
}

// engineModel returns the base for the training engine, which has its own copies of weights on a device: a base that llama.cpp has
// there is mapped a second time.
func (x *exporter) engineModel() (_ *llama.Model, err error) {
	if x.onCPU == nil {
		x.onCPU, err = native.Load(x.base, device.Placement{})
	}
	return x.onCPU, err
}

// lossWith returns the loss with the adapter of a file, whose factors are rounded to its type.
func (x *exporter) lossWith(ctx context.Context, path string) (loss eval.Loss, err error) {
	if !x.ofText() {
		a, err := adapter.Load(path)
		if err != nil {
			return eval.NotMeasured, err
		}
		return x.lossByEngine(ctx, a)
	}
	detach, err := x.eval.Attach(path, 1)
	if err != nil {
		return eval.NotMeasured, err
	}
	defer func() { err = errors.Join(err, detach()) }()
	return x.eval.Loss(ctx, x.val, nil)
}
