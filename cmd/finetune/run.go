package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"finetune/chat"
	"finetune/eval"
	"finetune/internal/hint"
	"finetune/model"
	"finetune/run"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// runFlags are those of finetune run.
type runFlags struct {
	evalFlags
	prompt   string
	task     string
	dims     int
	sampling eval.Sampling
}

func runCommand(u *ui) *cobra.Command {
	f := runFlags{sampling: eval.Sampling{Tokens: 128, TopP: 1, Seed: 1}}
	cmd := &cobra.Command{
		Use:   "run --model base.gguf [--adapter FILE|RUNDIR[:SCALE]] --prompt TEXT",
		Short: "continue a text, with or without an adapter",
		Long: "Run continues a prompt as it stands. finetune chat holds a conversation.\n\n" +
			"With --task classify it prints the label of the prompt, or of each line of standard input, with\n" +
			"its probability; a tab stands between the two texts of a pair. With --task embed it prints the\n" +
			"embedding of each, a JSON array of numbers whose squares add up to 1. With --task rerank each is\n" +
			"a query, a tab and a document, or {\"query\", \"documents\"}, and it prints a score, the higher the\n" +
			"better the document answers.",
		Example: "  finetune run --model base.gguf --adapter adapter.gguf --prompt \"Once upon a time\"",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] == "chat" {
				return hint.With(wrongUsage(cmd, "one argument too many: %q", args[0]), "finetune chat holds a conversation")
			}
			return exactly()(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			prompted := cmd.Flags().Changed("prompt")
			switch f.task {
			case run.TaskClassify:
				startEngine(u, f.threads)
				return classifyLines(cmd.Context(), u, f, prompted, cmd.InOrStdin())
			case run.TaskEmbed:
				startEngine(u, f.threads)
				return embedLines(cmd.Context(), u, f, prompted, cmd.InOrStdin())
			case run.TaskRerank:
				startEngine(u, f.threads)
				return rankLines(cmd.Context(), u, f, prompted, cmd.InOrStdin())
			}
			c := run.DefaultConfig()
			if c.Task = f.task; f.dims != 0 {
				c.Dims = strconv.Itoa(f.dims)
			}
			if err := c.ValidateRecords(); err != nil {
				return err
			}
			if !prompted {
				return wrongUsage(cmd, "--prompt is missing")
			}
			if err := f.sampling.Validate(); err != nil {
				return err
			}
			startEngine(u, f.threads)
			return withModel(u, f.evalFlags, func(base *model.Base, _ *llama.Model, e *eval.Evaluator) (err error) {
				detach, err := attach(u, e, base, f.adapters)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, detach()) }()
				return complete(cmd.Context(), u, f, e)
			})
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	modelFlag(flags, &f.model, modelNames)
	flags.StringArrayVar(&f.adapters, "adapter", nil, "GGUF LoRA or run directory, with :SCALE if not 1; several add up")
	flags.StringVar(&f.prompt, "prompt", "", "text to continue")
	flags.StringVar(&f.task, "task", "", "classify: print the label of a text; embed: its embedding; rerank: the score of a document for a query; empty continues a text")
	flags.IntVar(&f.dims, "dims", 0, "with --task embed how many numbers of an embedding, from its beginning; 0 is all")
	samplingFlags(flags, &f.sampling)
	f.addRoom(flags, "")
	required(cmd, "model")
	return cmd
}

// longestLine bounds a text that a task is done with, in bytes.
const longestLine = 16 << 20

// eachText hands the prompt to do, or line by line what comes from standard input; empty lines are left out.
func eachText(f runFlags, prompted bool, in io.Reader, do func(text string) error) error {
	if prompted {
		return do(f.prompt)
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		if err := do(lines.Text()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// warnOfCut says once that of a text the end was not read.
func (u *ui) warnOfCut(cut bool, nCtx int) {
	if cut {
		u.warn(fmt.Sprintf("of texts of more than %d tokens the beginning alone is read", nCtx), "--ctx N takes longer ones")
	}
}

// samplingFlags are those of commands that generate text. The values that s has are the defaults.
func samplingFlags(flags *pflag.FlagSet, s *eval.Sampling) {
	flags.IntVar(&s.Tokens, "n", s.Tokens, "most tokens to generate")
	flags.Float32Var(&s.Temp, "temp", s.Temp, "temperature; 0 takes the likeliest token")
	flags.IntVar(&s.TopK, "top-k", s.TopK, "top-k: choose among the k likeliest tokens; 0 is all")
	flags.Float32Var(&s.TopP, "top-p", s.TopP, "top-p: choose among the likeliest tokens that make up this probability")
	flags.Uint32Var(&s.Seed, "seed", s.Seed, "seed of the sampling")
}

// withModel opens the model, with a context, for the time of do.
func withModel(u *ui, f evalFlags, do func(*model.Base, *llama.Model, *eval.Evaluator) error) (err error) {
	base, m, err := f.openModel(u)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close(), base.Close()) }()
	const most = 4096
	nCtx := f.ctx
	if nCtx == 0 {
		nCtx = most
		if n := m.NCtxTrain(); n > 0 {
			nCtx = min(nCtx, n)
		}
	}
	e, err := eval.NewEvaluator(m, nCtx, f.threads)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	return do(base, m, e)
}

// runReport is what finetune run prints with --json.
type runReport struct {
	Prompt string `json:"prompt"`
	Text   string `json:"text"`
}

func complete(ctx context.Context, u *ui, f runFlags, e *eval.Evaluator) error {
	if u.json {
		var text strings.Builder
		if err := e.Generate(ctx, f.prompt, f.sampling, func(s string) { text.WriteString(s) }); err != nil {
			return err
		}
		return u.printJSON(runReport{f.prompt, text.String()})
	}
	fmt.Fprint(u.results(), f.prompt)
	err := e.Generate(ctx, f.prompt, f.sampling, func(s string) {
		fmt.Fprint(u.results(), s)
		u.flush() // a reader sees each token as it comes; a broken pipe shows at the end
	})
	fmt.Fprintln(u.results())
	return err
}

// templateOf returns the chat template, and what it is given, that the run of an adapter was trained with, or else the model's.
func templateOf(f evalFlags, m *llama.Model) (chat.Source, chat.Options, error) {
	c := withTemplate(run.Config{}, f)
	source, err := data.TemplateOf(c, chat.SourceOf(m))
	if err != nil {
		return source, chat.Options{}, err
	}
	args, err := chat.ParseArgs(run.Lines(c.TemplateArg))
	return source, chat.Options{Now: time.Now(), Args: args}, err
}
