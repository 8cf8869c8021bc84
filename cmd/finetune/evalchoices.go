package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"finetune/chat"
	"finetune/eval"
	"finetune/internal/hint"
	"finetune/model/native"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
	"github.com/spf13/cobra"
)

// choiceFlags are those of finetune eval --choices.
type choiceFlags struct {
	choices  bool
	template bool
	letters  bool
	samples  string // file to write
	force    bool   // if it is there
}

func (f *choiceFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.choices, "choices", false, "the records are questions with choices: measure how often the right one is the likeliest")
	flags.BoolVar(&f.template, "chat-template", false, "with --choices: ask by the model's chat template; otherwise the prompt is raw text")
	flags.BoolVar(&f.letters, "letters", false, "with --choices: list the choices in the prompt and choose from A, B, …, as for MMLU")
	flags.StringVar(&f.samples, "samples", "", "with --choices: write the log-likelihood of every choice to a `FILE`, a question a line of JSON")
	flags.BoolVar(&f.force, "force", false, "replace --samples if it exists")
}

// check refuses flags that do not belong together.
func (f *choiceFlags) check(cmd *cobra.Command) error {
	without, with := []string{"chat-template", "letters", "samples"}, []string{"val-fraction", "seed", "ngram", "ngram-order"}
	if f.choices {
		without, with = with, without
	}
	for _, name := range without {
		switch {
		case !cmd.Flags().Changed(name):
		case f.choices:
			return wrongUsage(cmd, "--%s is not for --choices", name)
		default:
			return wrongUsage(cmd, "--%s is for --choices only", name)
		}
	}
	return nil
}

// choicesReport is what finetune eval --choices prints: of the base alone, or with adapters, the base beside it.
type choicesReport struct {
	*eval.Accuracy
	Base   *eval.Accuracy `json:"base,omitempty"`
	Change *eval.Change   `json:"change,omitempty"`
}

// answerChoices is finetune eval --choices.
func answerChoices(ctx context.Context, u *ui, f evalFlags) error {
	r, err := evaluateChoices(ctx, u, f)
	switch {
	case err != nil:
		return err
	case u.json:
		return u.printJSON(r)
	}
	return printChoices(u.results(), r)
}

func evaluateChoices(ctx context.Context, u *ui, f evalFlags) (_ *choicesReport, err error) {
	if f.choice.samples != "" {
		if err := checkOut(f.choice.samples, f.choice.force, append(slices.Clone(f.adapters), f.model, f.data)...); err != nil {
			return nil, err
		}
	}
	base, m, err := f.openModel(u)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close(), base.Close()) }()
	questions, err := loadQuestions(f, m)
	if err != nil {
		return nil, err
	}
	e, err := eval.NewEvaluator(m, choiceContext(questions, m), f.threads)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	score := func() ([][]float64, error) {
		return e.LogLikelihoods(ctx, questions, func(done int) { u.counting("question", done, len(questions)) })
	}
	before, err := score()
	if err != nil {
		return nil, err
	}
	if len(f.adapters) == 0 {
		return &choicesReport{Accuracy: eval.Grade(questions, before)}, f.choice.write(questions, nil, before)
	}
	warnOfRawPrompts(u, f, m, questions)
	detach, err := attach(u, e, base, f.adapters)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, detach()) }()
	after, err := score()
	if err != nil {
		return nil, err
	}
	r := &choicesReport{Accuracy: eval.Grade(questions, after), Base: eval.Grade(questions, before)}
	r.Change = r.Accuracy.ChangeFrom(r.Base)
	return r, f.choice.write(questions, before, after)
}

// write writes --samples, if asked for.
func (f *choiceFlags) write(questions []data.Question, before, logs [][]float64) error {
	if f.samples == "" {
		return nil
	}
	return eval.WriteSamples(f.samples, questions, before, logs)
}

func loadQuestions(f evalFlags, m *llama.Model) ([]data.Question, error) {
	o := data.QuestionOptions{Tokenizer: m.Vocab(), NCtx: m.NCtxTrain(), Letters: f.choice.letters}
	if f.ctx > 0 {
		if err := native.CheckContext(m, f.ctx); err != nil {
			return nil, err
		}
		o.NCtx = f.ctx
	}
	if f.choice.template {
		var given chat.Options
		var err error
		if o.Template, given, err = templateOf(f, m); err != nil {
			return nil, err
		}
		o.Now, o.Args = given.Now, given.Args
		if o.Template.None() {
			return nil, hint.With(fmt.Errorf("model %q has no chat template", f.model), "without --chat-template the prompt is raw text")
		}
	}
	return data.LoadQuestions(f.data, o)
}

// warnOfRawPrompts tells that an adapter which learned such records has seen other text in front of the answers.
func warnOfRawPrompts(u *ui, f evalFlags, m *llama.Model, questions []data.Question) {
	_, has := m.ChatTemplate("")
	if has && !f.choice.template && slices.ContainsFunc(questions, func(q data.Question) bool { return q.Instruction }) {
		u.warn("the prompts are raw text, and training on such records writes them by the model's chat template", "--chat-template asks as training does")
	}
}

// choiceContext is that of the longest choice, but room for several questions at once.
func choiceContext(questions []data.Question, m *llama.Model) int {
	room := 512
	if most := m.NCtxTrain(); most > 0 {
		room = min(room, most)
	}
	for _, q := range questions {
		for _, a := range q.Answers {
			room = max(room, len(a.Tokens)-1)
		}
	}
	return room
}

func printChoices(w io.Writer, r *choicesReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, a *eval.Accuracy) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%.4f\n", name, uncertain(a.Share, a.StdErr), uncertain(a.ShareNorm, a.StdErrNorm), float64(a.Loss))
	}
	fmt.Fprintf(t, "%s\taccuracy\tper character\tloss of the right one\n", count(r.Questions, "question"))
	if r.Base == nil {
		row("base", r.Accuracy)
		return t.Flush()
	}
	row("base", r.Base)
	row("with the adapter", r.Accuracy)
	if err := t.Flush(); err != nil {
		return err
	}
	c := r.Change
	_, err := fmt.Fprintf(w, "\n%+.2f ± %.2f points: right in both %s, only with the adapter %s, only without %s, in neither %s\n", 100*c.Difference,
		100*float64(c.StdErr), thousands(int64(c.BothRight)), thousands(int64(c.Fixed)), thousands(int64(c.Broken)), thousands(int64(c.BothWrong)))
	return err
}

// uncertain is a share with its standard error.
func uncertain(share float64, e eval.StdErr) string {
	return fmt.Sprintf("%.2f ± %.2f %%", 100*share, 100*float64(e))
}
