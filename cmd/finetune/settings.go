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
	f.StringVar(&c.Model, "model", c.Model, modelNames)
	dataFlag(f, &c.Data, "training data: "+dataFiles)
	f.Var(&lines{setting: &c.Val, kind: "FILE"}, "val", "validation data, as --data; without it a part of the training data is held out")
	f.Float64Var(&c.ValFraction, "val-fraction", c.ValFraction, "`SHARE` of the training data that is held out")
	f.StringVar(&c.Out, "out", c.Out, "run directory, a new or empty `FOLDER`")

	recordFlags(f, c)
	f.Float64Var(&c.HeadLR, "head-lr", c.HeadLR, "with --task classify and rerank the classifier's learning rate as a share of the adapter's; 0 is 1")
	f.StringVar(&c.ClassWeights, "class-weights", c.ClassWeights, "with --task classify what a text counts by its label: balanced, or `WEIGHTS` such as spam=2,other=1; 1 if not given")

	f.StringVar(&c.Method, "method", c.Method, methodNames()+", or full: every weight of the model itself")
	f.IntVar(&c.Rank, "rank", c.Rank, "rank budget of an adapted matrix, which dual-lora splits between magnitude and direction as --start says")
	f.Float64Var(&c.Alpha, "alpha", c.Alpha, "scale is alpha/rank (dual-lora: of the magnitude's rank, with --start paper alpha/√(r1·r2); rslora: alpha/√rank); if not given twice the rank, rslora 8, a thin dual-lora 4 for each rank of its magnitude; 0 is a scale of 1")
	f.StringVar(&c.Targets, "targets", c.Targets, "all-linear, attention or a regular expression over tensor names")

	f.StringVar(&c.Start, "start", c.Start, "of dual-lora: thin (one magnitude rank, a constant start; if not given), gradient (thin, directions by the first gradients), even (the rank halved, ΔW of 0) or paper (arXiv 2512.03402)")
	f.IntVar(&c.MagnitudeRank, "magnitude-rank", c.MagnitudeRank, "ranks of dual-lora's magnitude; 0 is the start's own")
	f.Float64Var(&c.Rho, "rho", c.Rho, "size of a thin start's ΔW as a share of the weights'; 0 is by the number of matrices")
	f.Float64Var(&c.MagnitudeLR, "magnitude-lr", c.MagnitudeLR, "learning rate of dual-lora's magnitude as a share of the directions'; 0 is the start's own, 0.3 with a thin one, else 1")
	f.IntVar(&c.MagnitudeEvery, "magnitude-every", c.MagnitudeEvery, "gradients of a magnitude of one rank are formed over one of so many tokens, which is faster; 0 is all")
	f.Float64Var(&c.DeltaWarmup, "delta-warmup", c.DeltaWarmup, "share of the steps over which ΔW is faded in; 0.15 if not given, with --start even none")

	f.StringVar(&c.InitFrom, "init-from", c.InitFrom, "adapter, run directory or PEFT `FOLDER` that the training goes on from; method, rank, alpha and targets are its own")

	f.IntVar(&c.Ctx, "ctx", c.Ctx, "tokens a sequence")
	f.IntVar(&c.Batch, "batch", c.Batch, "sequences a forward pass")
	f.IntVar(&c.GradAccum, "grad-accum", c.GradAccum, "forward passes an optimizer step")
	f.IntVar(&c.Epochs, "epochs", c.Epochs, "passes over the training data")
	f.IntVar(&c.Steps, "steps", c.Steps, "optimizer steps; 0 is by --epochs")
	f.StringVar(&c.LongRecords, "long-records", c.LongRecords, "records longer than --ctx: cut or skip")

	f.Var(&rateFlag{&c.LR}, "lr", "highest learning `RATE`; usual: by method, rank, scale and steps; auto: by a range test before the first step; with --method full 1e-3 if not given")
	f.Float64Var(&c.MinLR, "min-lr", c.MinLR, "learning rate that the schedule ends at")
	f.StringVar(&c.Schedule, "schedule", c.Schedule, "cosine, linear or constant")
	f.Float64Var(&c.Warmup, "warmup", c.Warmup, "share of the steps, or from 1 on steps, of rising learning rate")
	f.Float64Var(&c.Clip, "clip", c.Clip, "largest global norm of the gradients; 0 is no limit")
	f.Float64Var(&c.WeightDecay, "weight-decay", c.WeightDecay, "decoupled weight decay; with --method full 0.1 on the matrices if not given")
	f.Uint64Var(&c.Seed, "seed", c.Seed, "seed of start values, order and split")

	f.IntVar(&c.Threads, "threads", c.Threads, "CPU threads; 0 is one per physical core")
	f.StringVar(&c.Device, "device", c.Device, deviceUsage)
	f.IntVar(&c.GPULayers, "gpu-layers", c.GPULayers, gpuLayersUsage)
	f.StringVar(&c.MaxMemory, "max-memory", c.MaxMemory, "memory to stay below, such as 4GiB")

	f.IntVar(&c.EvalEvery, "eval-every", c.EvalEvery, "steps between validations; 0 is at the start and the end")
	f.IntVar(&c.ValTokens, "val-tokens", c.ValTokens, "tokens that a validation measures at most, evenly from all that is held out; 0 is what takes a few minutes")
	f.IntVar(&c.Patience, "patience", c.Patience, "stop when the validation loss has not fallen for `N` validations; 0 is never")
	f.StringVar(&c.Keep, "keep", c.Keep, "what the run ends with: last, or best, the step of the lowest validation loss; if not given best with --patience, else last")
	f.IntVar(&c.CheckpointEvery, "checkpoint-every", c.CheckpointEvery, "steps between checkpoints; 0 is at the end and on Ctrl-C")
	f.Float64Var(&c.CheckpointMinutes, "checkpoint-minutes", c.CheckpointMinutes, "minutes after which a checkpoint is due as well; 0 is by --checkpoint-every alone")
	f.IntVar(&c.LogEvery, "log-every", c.LogEvery, "steps between lines of the log")
	f.IntVar(&c.Samples, "samples", c.Samples, "answer `N` prompts of the validation data with the base and at each validation; each of the 32 tokens of an answer takes a forward pass")
	f.BoolVar(&c.TensorBoard, "tensorboard", c.TensorBoard, "write the log's numbers for TensorBoard too: tensorboard --logdir RUNDIR")
}

// dataFiles says what --data takes.
const dataFiles = "a `FILE` (.txt, .md, .jsonl, .json, .csv, .tsv, .parquet, also .gz or .zst), folder, glob, or - for standard input; may be given several times"

// dataFlag defines --data.
func dataFlag(f *pflag.FlagSet, setting *string, usage string) {
	f.Var(&lines{setting: setting, kind: "FILE"}, "data", usage)
}

// recordFlags defines the flags that say how records are read.
func recordFlags(f *pflag.FlagSet, c *run.Config) {
	f.StringVar(&c.Format, "format", c.Format, "format of the records, such as alpaca, sharegpt, messages or text; empty is by their fields")
	f.StringVar(&c.Task, "task", c.Task, "what is learned: classify, the label of each record; embed, which texts belong together; rerank, how relevant a document is to a query; empty is the text that follows")
	f.Float64Var(&c.Temperature, "temperature", c.Temperature, "with --task embed what the cosines are divided by; 0 is 0.05")
	f.StringVar(&c.Dims, "dims", c.Dims, "with --task embed `LENGTHS`, such as 128,384, at which the beginnings of embeddings are good for comparing too")
	f.StringVar(&c.LabelField, "label-field", c.LabelField, "with --task classify or rerank the `FIELD` with the labels or the relevance; empty is found by its name; 1, 2 … are the columns of a table without a header")
	f.Var(&lines{setting: &c.Map, kind: "FIELD=COLUMN"}, "map", "column that holds a field of the format, such as completion=answer; may be given several times")
	f.StringVar(&c.OnLost, "on-lost", c.OnLost, "records of which the chat template prints not everything: refuse, warn or skip")
	f.IntVar(&c.SkipBad, "skip-bad", c.SkipBad, "leave out up to `N` records that cannot be read, and say which")
	f.StringVar(&c.Template, "template", c.Template, "chat template, a Jinja `FILE`, in place of the model's own")
	f.Var(&lines{setting: &c.TemplateArg, kind: "KEY=VALUE"}, "template-arg", "argument of the chat template, such as enable_thinking=false; may be given several times")
	f.StringVar(&c.Date, "date", c.Date, "`DAY` that chat templates tell, such as 2026-01-31; empty is today's")
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

func (f rateFlag) Type() string { return "number, usual or auto" }

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
		if list, ok := f.Lookup(name).Value.(pflag.SliceValue); ok {
			if err := list.Replace(run.Lines(value)); err != nil {
				return err
			}
			continue
		}
		if err := f.Set(name, value); err != nil {
			return err
		}
	}
	return nil
}
