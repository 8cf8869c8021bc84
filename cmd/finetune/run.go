package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"finetune/chat"
	"finetune/eval"
	"finetune/internal/hint"
	"finetune/run"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
	"github.com/spf13/cobra"
)

// runFlags are those of finetune run.
type runFlags struct {
	evalFlags
	prompt   string
	system   string
	sampling eval.Sampling
}

func runCommand(u *ui) *cobra.Command {
	f := runFlags{sampling: eval.Sampling{Tokens: 128, TopP: 1, Seed: 1}}
	cmd := &cobra.Command{
		Use:   "run --model base.gguf [--adapter FILE|RUNDIR[:SCALE]] (--prompt TEXT | chat)",
		Short: "generate text, or chat, with or without an adapter",
		Long: "Run continues a prompt, or holds a conversation by the model's own chat template:\n" +
			"one line of standard input is one turn.",
		Example: "  finetune run --model base.gguf --prompt \"Once upon a time\"\n  finetune run --model base.gguf --adapter adapter.gguf chat",
		Args: func(cmd *cobra.Command, args []string) error {
			isChat := len(args) == 1 && args[0] == "chat"
			switch {
			case len(args) > 0 && !isChat:
				return wrongUsage(cmd, `want "chat" or nothing, got %q`, args)
			case isChat == cmd.Flags().Changed("prompt"):
				return wrongUsage(cmd, "want either --prompt or chat")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.sampling.Validate(); err != nil {
				return err
			}
			startEngine(u, f.threads)
			return withModel(u, f, func(m *llama.Model, e *eval.Evaluator) error {
				if len(args) == 1 {
					return converse(cmd, u, f, m, e)
				}
				return complete(cmd.Context(), u, f, e)
			})
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	modelFlag(flags, &f.model, modelNames)
	flags.StringArrayVar(&f.adapters, "adapter", nil, "GGUF LoRA or run directory, with :SCALE if not 1; may be given several times")
	flags.StringVar(&f.prompt, "prompt", "", "text to continue")
	flags.StringVar(&f.system, "system", "", "system message of a chat")
	flags.IntVar(&f.sampling.Tokens, "n", f.sampling.Tokens, "most tokens to generate")
	flags.Float32Var(&f.sampling.Temp, "temp", 0, "temperature; 0 takes the likeliest token")
	flags.IntVar(&f.sampling.TopK, "top-k", 0, "top-k: choose among the k likeliest tokens; 0 is all")
	flags.Float32Var(&f.sampling.TopP, "top-p", f.sampling.TopP, "top-p: choose among the likeliest tokens that make up this probability")
	flags.Uint32Var(&f.sampling.Seed, "seed", f.sampling.Seed, "seed of the sampling")
	flags.IntVar(&f.ctx, "ctx", 0, "context in tokens; 0 is the model's, at most 4096")
	flags.IntVar(&f.threads, "threads", 0, "threads; 0 is one per physical core")
	f.deviceFlags.add(flags)
	required(cmd, "model")
	return cmd
}

// withModel opens the model with its adapters for the time of do.
func withModel(u *ui, f runFlags, do func(*llama.Model, *eval.Evaluator) error) (err error) {
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
	detach, err := attach(u, e, base, f.adapters)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, detach()) }()
	return do(m, e)
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

// converse answers line after line until the input ends.
func converse(cmd *cobra.Command, u *ui, f runFlags, m *llama.Model, e *eval.Evaluator) error {
	template, o, err := templateOf(f.evalFlags, m)
	if err != nil {
		return err
	}
	if template.None() {
		return hint.With(fmt.Errorf("model %q has no chat template", f.model), "--prompt continues a text instead")
	}
	var messages []chat.Message
	if f.system != "" {
		messages = append(messages, chat.Message{Role: "system", Content: f.system})
	}
	lines := bufio.NewScanner(cmd.InOrStdin())
	for u.prompt("> "); lines.Scan(); u.prompt("> ") {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		messages = append(messages, chat.Message{Role: "user", Content: lines.Text()})
		prompt, err := chat.PromptFrom(template, m.Vocab(), o, messages)
		if err != nil {
			return err
		}
		var answer strings.Builder
		err = e.Generate(cmd.Context(), prompt, f.sampling, func(s string) {
			answer.WriteString(s)
			if !u.json {
				fmt.Fprint(u.results(), s)
				u.flush()
			}
		})
		if err != nil {
			return err
		}
		messages = append(messages, chat.Message{Role: "assistant", Content: answer.String()})
		if u.json {
			if err := u.printJSON(runReport{lines.Text(), answer.String()}); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintln(u.results())
		if err := u.flush(); err != nil {
			return err
		}
	}
	return lines.Err()
}
