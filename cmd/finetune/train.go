package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"finetune/internal/setting"
	"finetune/run"
	"finetune/trainer"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func trainCommand(u *ui) *cobra.Command {
	c := run.DefaultConfig()
	var file string
	var resume, dry bool
	cmd := &cobra.Command{
		Use:   "train --model base.gguf --data FILE --out RUNDIR",
		Short: "train an adapter over a GGUF base model, or the model itself",
		Long: "Train learns an adapter from texts or from records (prompt and completion, messages,\n" +
			"instruction and output, question and answer …) and leaves it in a run directory. The\n" +
			"base is read as it is, quantized or not, and never changed. finetune data preview shows\n" +
			"what of the records is learned.\n\n" +
			"--method says what the adapter is: dual-lora (arXiv 2512.03402), lora, rslora, whose\n" +
			"scale is alpha/√rank (2312.03732), or dora, which learns the length of each row of a\n" +
			"matrix apart from its direction (2402.09353).\n\n" +
			"Settings come from the --config file, from the environment (FINETUNE_MAX_MEMORY is\n" +
			"--max-memory) and from the command line, each before the one in front of it. config.yaml in\n" +
			"the run directory holds those that are in effect.\n\n" +
			"With --method full every weight of a base in F32, F16 or BF16 is trained instead,\n" +
			"and the run directory ends with model.gguf, a model of the same layout.",
		Example: "  finetune train --model base.gguf --data train.jsonl --out run/\n" +
			"  finetune train --model base-f16.gguf --data train.txt --out run/ --method full\n" +
			"  finetune train --resume --out run/",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dry && resume {
				return wrongUsage(cmd, "want --dry-run or --resume, not both")
			}
			if dry {
				u.offline = "a dry run brings nothing"
			}
			for _, name := range unknownVariables() {
				u.warn(name+": there is no setting of this name", "finetune train --help lists them: --max-memory is "+variableOf("max-memory"))
			}
			if err := settingsFromEnvironment(cmd.Flags(), resume, os.Getenv); err != nil {
				return err
			}
			if err := readSettings(cmd.Context(), u, cmd.Flags(), &c, file, resume); err != nil {
				return err
			}
			if err := c.Validate(); err != nil {
				return err
			}
			startEngine(u, c.Threads)
			if _, err := (deviceFlags{c.Device, c.GPULayers}).choose(u); err != nil {
				return err
			}
			if dry {
				return dryRun(cmd.Context(), u, c)
			}
			return train(cmd.Context(), u, c, resume)
		},
	}
	cmd.Flags().SortFlags = false
	settingFlags(cmd.Flags(), &c)
	cmd.Flags().StringVar(&file, "config", "", "YAML `FILE` with settings, such as finetune init writes; variables FINETUNE_… go before it, and flags before both")
	cmd.Flags().BoolVar(&resume, "resume", false, "continue the run in --out from its newest checkpoint")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "plan the memory, time three steps, tell how long the run would take, and write nothing")
	return cmd
}

// readSettings puts the flags that were given, in c, over the file's values, that of --config or of the run to be resumed,
// and these over the defaults of the method.
func readSettings(ctx context.Context, u *ui, given *pflag.FlagSet, c *run.Config, file string, resume bool) error {
	method := ""
	if given.Changed("method") {
		method = c.Method
	}
	below, err := run.DefaultsOf(method), error(nil)
	switch {
	case file != "":
		below, err = run.LoadConfigFor(file, method)
	case resume:
		below, err = run.LoadSaved(c.Out)
	}
	if err != nil {
		return err
	}
	if err := overlay(given, c, below); err != nil {
		return err
	}
	if given.Changed("magnitude-rank") && c.MagnitudeRank == 0 { // in a file 0 is what is there without a rank
		return &setting.Error{Key: "magnitude-rank", Want: fmt.Sprintf("1 to %d", c.Rank-1), Got: "0"}
	}
	if given.Changed("model") {
		c.ModelName = ""
	}
	if resume {
		return nameModel(ctx, u, c)
	}
	if c.InitFrom == "" { // before anything is brought for it
		if err := c.Completed(given.Changed).Validate(); err != nil {
			return err
		}
	}
	if err := nameModel(ctx, u, c); err != nil {
		return err
	}
	*c, err = trainer.FollowInitial(c.Completed(given.Changed), given.Changed)
	return err
}

func train(ctx context.Context, u *ui, c run.Config, resume bool) error {
	p := newTrainProgress(u)
	var jsonErr error
	s, err := trainer.Train(ctx, c, resume, func(e trainer.Event) {
		p.event(e)
		if u.json && jsonErr == nil && e.Kind != "reading" && e.Kind != "measuring" {
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

// printKept tells which step the result is of, where validations have decided that.
func printKept(w io.Writer, s *trainer.Summary) {
	if s.Stopped {
		fmt.Fprintf(w, "stopped: the validation loss had not fallen any more\n")
	}
	switch {
	case s.KeptStep == 0:
	case s.KeptStep == s.Steps:
		fmt.Fprintf(w, "the result is that of step %d, the last\n", s.KeptStep)
	default:
		fmt.Fprintf(w, "the result is that of step %d, with the lowest validation loss; after the last it was %.4f\n", s.KeptStep, float64(*s.LastValLoss))
	}
}

func printSummary(u *ui, c run.Config, s *trainer.Summary) {
	w := u.results()
	fmt.Fprintf(w, "%s in %s: %s tokens/s trained, %s raw, %s at most\n", count(s.Steps, "step"), clock(s.Seconds),
		thousands(int64(s.TrainedRate)), thousands(int64(s.RawRate)), mebibytes(s.PeakMemory))
	if s.ValLoss.Measured() {
		printKept(w, s)
		fmt.Fprintf(w, "validation loss %.4f → %.4f, perplexity %.2f → %.2f\n", float64(s.BaseValLoss), float64(s.ValLoss),
			s.BaseValLoss.Perplexity(), s.ValLoss.Perplexity())
	}
	if s.Adapter == "" {
		fmt.Fprintf(w, "\nfor llama.cpp and its apps as it is:\n  finetune run --model %s --prompt \"…\"\n", shellWord(s.Result))
		return
	}
	if c.Task != "" {
		fmt.Fprintf(w, "\nnext:\n  finetune eval --model %s --adapter %s --data FILE --task %s\n  finetune merge --model %[1]s --adapter %[2]s --out merged.gguf\n",
			shellWord(c.Model), shellWord(s.Run), c.Task)
		return
	}
	fmt.Fprintf(w, "\nnext, for llama.cpp and its apps:\n  finetune export --run %s --out adapter.gguf\n  finetune run --model %s --adapter adapter.gguf --prompt \"…\"\n",
		shellWord(s.Run), shellWord(c.Model))
}
