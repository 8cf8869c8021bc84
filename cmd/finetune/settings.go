package main

import (
	"strings"

	"finetune/adapter"
	"finetune/run"

	"github.com/spf13/pflag"
)

// settingFlags defines a flag for each field of c, by its YAML key. The values
// that c has are the defaults.
func settingFlags(f *pflag.FlagSet, c *run.Config) {
	f.StringVar(&c.Model, "model", c.Model, "base model, a GGUF `FILE`")
	f.StringVar(&c.Data, "data", c.Data, "training data, a .txt, .jsonl or .json `FILE`")
	f.StringVar(&c.Val, "val", c.Val, "validation data, a `FILE`; without it a part of the training data is held out")
	f.Float64Var(&c.ValFraction, "val-fraction", c.ValFraction, "`SHARE` of the training data that is held out")
	f.StringVar(&c.Out, "out", c.Out, "run directory, a new or empty `FOLDER`")

	f.StringVar(&c.Method, "method", c.Method, methodNames()+", or full: every weight of the model itself")
	f.IntVar(&c.Rank, "rank", c.Rank, "rank budget of an adapted matrix; dual-lora splits it evenly between magnitude and direction")
	f.Float64Var(&c.Alpha, "alpha", c.Alpha, "scale is alpha/rank (dual-lora: of the magnitude's rank, with --start paper alpha/√(r1·r2); rslora: alpha/√rank); 0 is a scale of 1")
	f.StringVar(&c.Targets, "targets", c.Targets, "all-linear, attention or a regular expression over tensor names")

	f.StringVar(&c.Start, "start", c.Start, "of dual-lora: even, thin (one magnitude rank, a constant start), gradient (thin, directions by the first gradients) or paper (arXiv 2512.03402)")
	f.IntVar(&c.MagnitudeRank, "magnitude-rank", c.MagnitudeRank, "ranks of dual-lora's magnitude; 0 is the start's own")
	f.Float64Var(&c.Rho, "rho", c.Rho, "size of a thin start's ΔW as a share of the weights'; 0 is by the number of matrices")
	f.Float64Var(&c.MagnitudeLR, "magnitude-lr", c.MagnitudeLR, "learning rate of dual-lora's magnitude as a share of the directions'; 0 is the start's own, 0.3 with a thin one, else 1")
	f.IntVar(&c.MagnitudeEvery, "magnitude-every", c.MagnitudeEvery, "a magnitude of one rank is trained in one of so many steps, which is faster; 0 is each")
	f.Float64Var(&c.DeltaWarmup, "delta-warmup", c.DeltaWarmup, "share of the steps over which ΔW is faded in; 0.15 if not given, with --start even none")

	f.StringVar(&c.InitFrom, "init-from", c.InitFrom, "adapter, run directory or PEFT `FOLDER` that the training goes on from; method, rank, alpha and targets are its own")

	f.IntVar(&c.Ctx, "ctx", c.Ctx, "tokens a sequence")
	f.IntVar(&c.Batch, "batch", c.Batch, "sequences a forward pass")
	f.IntVar(&c.GradAccum, "grad-accum", c.GradAccum, "forward passes an optimizer step")
	f.IntVar(&c.Epochs, "epochs", c.Epochs, "passes over the training data")
	f.IntVar(&c.Steps, "steps", c.Steps, "optimizer steps; 0 is by --epochs")
	f.StringVar(&c.LongRecords, "long-records", c.LongRecords, "records longer than --ctx: cut or skip")

	f.Var(&rateFlag{&c.LR}, "lr", "highest learning `RATE`, or auto: chosen by a range test before the first step; with --method full 1e-3 if not given")
	f.Float64Var(&c.MinLR, "min-lr", c.MinLR, "learning rate that the schedule ends at")
	f.StringVar(&c.Schedule, "schedule", c.Schedule, "cosine, linear or constant")
	f.Float64Var(&c.Warmup, "warmup", c.Warmup, "share of the steps, or from 1 on steps, of rising learning rate")
	f.Float64Var(&c.Clip, "clip", c.Clip, "largest global norm of the gradients; 0 is no limit")
	f.Float64Var(&c.WeightDecay, "weight-decay", c.WeightDecay, "decoupled weight decay; with --method full 0.1 on the matrices if not given")
	f.Uint64Var(&c.Seed, "seed", c.Seed, "seed of start values, order and split")

	f.IntVar(&c.Threads, "threads", c.Threads, "CPU threads; 0 is one per physical core")
	f.StringVar(&c.Device, "device", c.Device, "auto or cpu; this build refuses metal, cuda and vulkan")
	f.StringVar(&c.MaxMemory, "max-memory", c.MaxMemory, "memory to stay below, such as 4GiB")

	f.IntVar(&c.EvalEvery, "eval-every", c.EvalEvery, "steps between validations; 0 is at the start and the end")
	f.IntVar(&c.CheckpointEvery, "checkpoint-every", c.CheckpointEvery, "steps between checkpoints; 0 is at the end and on Ctrl-C")
	f.IntVar(&c.LogEvery, "log-every", c.LogEvery, "steps between lines of the log")
}

// rateFlag is a learning rate as a flag.
type rateFlag struct{ rate *run.Rate }

func (f rateFlag) String() string {
	if f.rate == nil {
		return ""
	}
	return f.rate.Text()
}

func (f rateFlag) Set(s string) (err error) {
	*f.rate, err = run.ParseRate(s)
	return err
}

func (f rateFlag) Type() string { return "number or auto" }

// methodNames lists the methods of adapters.
func methodNames() string {
	var names []string
	for _, m := range adapter.Methods() {
		names = append(names, string(m))
	}
	return strings.Join(names, ", ")
}

// overlay puts the settings of file below the flags: c, which settingFlags was
// given, gets the file's values except where a flag was set on the command line.
func overlay(f *pflag.FlagSet, c *run.Config, file run.Config) error {
	given := map[string]string{} // read before the assignment, which they share memory with
	f.Visit(func(flag *pflag.Flag) { given[flag.Name] = flag.Value.String() })
	*c = file
	for name, value := range given {
		if err := f.Set(name, value); err != nil {
			return err
		}
	}
	return nil
}
