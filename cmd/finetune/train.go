package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"finetune/trainer"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func trainCommand(u *ui) *cobra.Command {
	flags := trainer.DefaultConfig()
	var file string
	var resume bool
	cmd := &cobra.Command{
		Use:   "train --model base.gguf --data FILE --out RUNDIR",
		Short: "train an adapter over a GGUF base model",
		Long: "Train learns a Dual LoRA or LoRA adapter from a text (.txt) or from records\n" +
			"(.jsonl with text, prompt and completion, or messages) and leaves it in a run\n" +
			"directory. The base is read as it is, quantized or not, and never changed.",
		Example: "  finetune train --model base.gguf --data train.jsonl --out run/\n  finetune train --resume --out run/",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := trainConfig(cmd.Flags(), flags, file, resume)
			if err != nil {
				return err
			}
			if err := c.Validate(); err != nil {
				return err
			}
			startEngine(u)
			return train(cmd.Context(), u, c, resume)
		},
	}
	bindConfig(cmd.Flags(), &flags)
	cmd.Flags().StringVar(&file, "config", "", "YAML file with settings; flags win over it")
	cmd.Flags().BoolVar(&resume, "resume", false, "continue the run in --out from its newest checkpoint")
	return cmd
}

// bindConfig defines a flag for every setting, named as its YAML key.
func bindConfig(f *pflag.FlagSet, c *trainer.Config) {
	f.SortFlags = false
	f.StringVar(&c.Model, "model", c.Model, "base model, a GGUF")
	f.StringVar(&c.Data, "data", c.Data, "training data: .txt, .jsonl or .json")
	f.StringVar(&c.Val, "val", c.Val, "validation data; without it a part of --data is held out")
	f.Float64Var(&c.ValFraction, "val-fraction", c.ValFraction, "part of --data held out: the end of a text, or records by --seed")
	f.StringVar(&c.Out, "out", c.Out, "run directory to make")
	f.StringVar(&c.Method, "method", c.Method, "dual-lora or lora")
	f.IntVar(&c.Rank, "rank", c.Rank, "rank of each matrix; dual-lora splits it between magnitude and direction")
	f.Float64Var(&c.Alpha, "alpha", c.Alpha, "scale is alpha/rank (dual-lora: of the magnitude's half); 0 is a scale of 1")
	f.StringVar(&c.Targets, "targets", c.Targets, "all-linear, attention or a regular expression over whole tensor names")
	f.IntVar(&c.Ctx, "ctx", c.Ctx, "tokens in a sequence")
	f.IntVar(&c.Batch, "batch", c.Batch, "sequences in a forward pass")
	f.IntVar(&c.GradAccum, "grad-accum", c.GradAccum, "forward passes in a step")
	f.IntVar(&c.Epochs, "epochs", c.Epochs, "passes over the data")
	f.IntVar(&c.Steps, "steps", c.Steps, "steps, instead of epochs")
	f.StringVar(&c.LongRecords, "long-records", c.LongRecords, "records longer than --ctx: cut or skip")
	f.Float64Var(&c.LR, "lr", c.LR, "peak learning rate")
	f.Float64Var(&c.MinLR, "min-lr", c.MinLR, "learning rate at the end of the schedule")
	f.StringVar(&c.Schedule, "schedule", c.Schedule, "cosine, linear or constant")
	f.Float64Var(&c.Warmup, "warmup", c.Warmup, "warm-up: below 1 a share of the steps, else steps")
	f.Float64Var(&c.Clip, "clip", c.Clip, "largest norm of the gradient; 0 is no limit")
	f.Float64Var(&c.WeightDecay, "weight-decay", c.WeightDecay, "AdamW's decay")
	f.Uint64Var(&c.Seed, "seed", c.Seed, "seed of start values, order and split")
	f.IntVar(&c.Threads, "threads", c.Threads, "threads; 0 is one a physical core")
	f.StringVar(&c.Device, "device", c.Device, "auto or cpu")
	f.StringVar(&c.MaxMemory, "max-memory", c.MaxMemory, "memory to stay below, such as 4GiB")
	f.IntVar(&c.EvalEvery, "eval-every", c.EvalEvery, "steps between validations; 0 is at the start and the end")
	f.IntVar(&c.CheckpointEvery, "checkpoint-every", c.CheckpointEvery, "steps between checkpoints; 0 is at the end and when interrupted")
	f.IntVar(&c.LogEvery, "log-every", c.LogEvery, "steps between lines of log.jsonl")
}

// trainConfig puts the flags that were given over the file's values: that of --config, or of the run to be resumed.
func trainConfig(given *pflag.FlagSet, flags trainer.Config, file string, resume bool) (trainer.Config, error) {
	if file == "" && resume {
		file = filepath.Join(flags.Out, trainer.ConfigFile)
	}
	if file == "" {
		return flags, nil
	}
	c, err := trainer.LoadConfig(file)
	if err != nil {
		return c, err
	}
	over := pflag.NewFlagSet("", pflag.ContinueOnError)
	bindConfig(over, &c)
	given.Visit(func(f *pflag.Flag) {
		if err == nil && over.Lookup(f.Name) != nil {
			err = over.Set(f.Name, f.Value.String())
		}
	})
	return c, err
}

func train(ctx context.Context, u *ui, c trainer.Config, resume bool) error {
	p := trainProgress{ui: u, started: time.Now()}
	var jsonErr error
	s, err := trainer.Train(ctx, c, resume, func(e trainer.Event) {
		p.event(e)
		if u.json && jsonErr == nil {
			jsonErr = u.printJSON(e)
		}
	})
	if err != nil {
		return err
	}
	if !u.json {
		printSummary(u, c, s)
	}
	return jsonErr
}

// quietInterval is how often progress is said where no status line can be drawn.
const quietInterval = 20 * time.Second

// trainProgress tells people how a run goes.
type trainProgress struct {
	*ui
	started, said time.Time
	loss          float64 // a running mean: single steps jump
}

func (p *trainProgress) event(e trainer.Event) {
	switch e.Kind {
	case "start":
		p.say("%s over %q: %s trained numbers in %s, %s of work memory, %s", e.Method, e.Model, thousands(int64(e.Parameters)),
			counted(e.Matrices, "matrix", "matrices"), mebibytes(e.WorkBytes), count(e.Threads, "thread"))
		p.say("%s for training, %d for validation, %s", count(e.Windows, "window"), e.ValWindows, count(e.TotalSteps, "step"))
		for _, note := range e.Notes {
			p.warn(note)
		}
	case "eval":
		what := fmt.Sprintf("after step %d", e.Step)
		if e.Step == 0 {
			what = "of the base"
		}
		p.say("validation loss %s: %.4f (perplexity %.2f)", what, float64(e.Loss), e.Loss.Perplexity())
	case "checkpoint":
		p.say("checkpoint %q", e.File)
	case "step":
		p.step(e)
	}
}

func (p *trainProgress) step(e trainer.Event) {
	const memory = 0.9 // of the running mean
	if p.loss == 0 {
		p.loss = float64(e.Loss)
	}
	p.loss = memory*p.loss + (1-memory)*float64(e.Loss)
	text := fmt.Sprintf("step %d of %d: loss %.3f, %s tokens/s trained, %s raw, %s left", e.Step, e.TotalSteps, p.loss,
		thousands(int64(e.TokensPerSecond)), thousands(int64(e.RawPerSecond)), clock(e.SecondsLeft))
	if p.progress("%s", text) {
		return
	}
	if now := time.Now(); now.Sub(p.said) > quietInterval && e.Step < e.TotalSteps {
		p.said = now
		p.say("%s", text)
	}
}

func printSummary(u *ui, c trainer.Config, s *trainer.Summary) {
	w := u.results()
	fmt.Fprintf(w, "%s in %s: %s tokens/s trained, %s raw, %s at most\n", count(s.Steps, "step"), clock(s.Seconds),
		thousands(int64(s.TrainedRate)), thousands(int64(s.RawRate)), mebibytes(s.PeakMemory))
	if s.ValLoss.Measured() {
		fmt.Fprintf(w, "validation loss %.4f → %.4f, perplexity %.2f → %.2f\n", float64(s.BaseValLoss), float64(s.ValLoss),
			s.BaseValLoss.Perplexity(), s.ValLoss.Perplexity())
	}
	fmt.Fprintf(w, "\nnext, for llama.cpp and its apps:\n  finetune export --run %s --out adapter.gguf\n  finetune run --model %s --adapter adapter.gguf --prompt \"…\"\n",
		shellWord(s.Run), shellWord(c.Model))
}
