package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"finetune/adapter"
	"finetune/chat"
	"finetune/device"
	"finetune/eval"
	"finetune/internal/setting"
	"finetune/model"
	"finetune/model/native"
	"finetune/run"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// evalFlags are those of finetune eval.
type evalFlags struct {
	model    string
	adapters []string
	data     string
	ctx      int
	heldOut  float64
	seed     uint64
	threads  int
	deviceFlags

	ngram string // text to count
	order int

	records    run.Config // how they are read
	scoreField string
	choice     choiceFlags
}

// evalReport is what finetune eval prints.
type evalReport struct {
	Loss       eval.Loss    `json:"loss"`
	Perplexity float64      `json:"perplexity"`
	Tokens     int64        `json:"tokens"` // that were predicted
	Windows    int          `json:"windows"`
	Ctx        int          `json:"ctx"`
	Records    int          `json:"records"`         // that were read
	Notes      []string     `json:"notes,omitempty"` // what became of them: cut, skipped, left out
	NGram      *ngramReport `json:"ngram,omitempty"`
}

// ngramReport is what counting alone reaches on the same tokens.
type ngramReport struct {
	Order      int       `json:"order"`
	Loss       eval.Loss `json:"loss"`
	Perplexity float64   `json:"perplexity"`
}

func evalCommand(u *ui) *cobra.Command {
	f := evalFlags{records: run.DefaultConfig()}
	cmd := &cobra.Command{
		Use:   "eval --model base.gguf [--adapter FILE|RUNDIR[:SCALE]] --data FILE",
		Short: "measure the loss of a model on a text or on records",
		Long: "Eval measures the mean loss over the tokens that training would learn, computed by\n" +
			"llama.cpp through its own LoRA path, as an app would. With --ngram it also reports the\n" +
			"loss of an n-gram model on the same tokens, which only counts.\n\n" +
			"With --choices the records are questions with choices, and each choice is scored by\n" +
			"its log-likelihood behind the prompt, as lm-evaluation-harness does: accuracy goes by\n" +
			"the sum (acc), accuracy_norm by the sum for each character (acc_norm). Records are\n" +
			"{question or query or prompt, choices, answer}, PIQA's {goal, sol1, sol2, label}, or\n" +
			"LLM-Adapters' {instruction, output, answer}. With --adapter, the same questions are\n" +
			"answered without it and with it.\n\n" +
			"With --task classify the classifier of a run directory, or of a merged model, is measured\n" +
			"on texts with labels; with --task embed, how well queries find the texts that belong to them,\n" +
			"or of pairs with a score how the cosines go with the scores (Spearman, Pearson); with --task\n" +
			"rerank, in what order the documents of each query come (MRR, nDCG).",
		Example: "  finetune eval --model base.gguf --data val.jsonl\n  finetune eval --model base.gguf --adapter adapter.gguf:0.5 --data val.jsonl --json\n" +
			"  finetune eval --model base.gguf --data val.txt --ngram train.txt\n" +
			"  finetune eval --model base.gguf --adapter adapter.gguf --data ARC-Easy-test.json --choices\n" +
			"  finetune eval --model base.gguf --adapter run/ --data test.tsv --task classify",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.choice.check(cmd); err != nil {
				return err
			}
			if f.scoreField != "" && f.records.Task != run.TaskEmbed {
				return &setting.Error{Key: "score-field", Want: "none without task embed", Got: strconv.Quote(f.scoreField)}
			}
			startEngine(u, f.threads)
			switch f.records.Task {
			case run.TaskClassify:
				return evaluateClasses(cmd.Context(), u, f)
			case run.TaskEmbed:
				return evaluateEmbeddings(cmd.Context(), u, f)
			case run.TaskRerank:
				return evaluateRanking(cmd.Context(), u, f)
			}
			if f.choice.choices {
				return answerChoices(cmd.Context(), u, f)
			}
			r, err := evaluate(cmd.Context(), u, f)
			if err != nil {
				return err
			}
			if u.json {
				return u.printJSON(r)
			}
			fmt.Fprintf(u.results(), "loss %.4f, perplexity %.2f over %s tokens in %s of %d\n", float64(r.Loss), r.Perplexity,
				thousands(r.Tokens), count(r.Windows, "window"), r.Ctx)
			if n := r.NGram; n != nil {
				fmt.Fprintf(u.results(), "loss %.4f, perplexity %.2f by counting alone: an n-gram model of order %d of %s\n",
					float64(n.Loss), n.Perplexity, n.Order, plain(f.ngram))
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	modelFlag(flags, &f.model, modelNames)
	flags.StringArrayVar(&f.adapters, "adapter", nil, "GGUF LoRA or run directory, with :SCALE if not 1; may be given several times")
	dataFlag(flags, &f.data, "text or records: "+dataFiles)
	flags.IntVar(&f.ctx, "ctx", 0, "tokens in a sequence; 0 is the run's, or 512 if the model takes that many; with --choices the most a choice may have, 0 is the model's")
	flags.Float64Var(&f.heldOut, "val-fraction", 0, "measure only the part of --data that train holds out; 0 is all")
	flags.Uint64Var(&f.seed, "seed", 1, "seed of the split of records, as in train")
	recordFlags(flags, &f.records)
	flags.StringVar(&f.scoreField, "score-field", "", "with --task embed the `FIELD` with the scores of pairs; empty is score, similarity_score, similarity or label, if the first record has a number there")
	flags.StringVar(&f.ngram, "ngram", "", "text or records to count n-grams in, those that the model was trained on; of --data itself, the part that train does not hold out")
	flags.IntVar(&f.order, "ngram-order", 3, "length in tokens of the n-grams that --ngram counts")
	flags.IntVar(&f.threads, "threads", 0, "threads; 0 is one per physical core")
	f.deviceFlags.add(flags)
	f.choice.add(cmd)
	required(cmd, "model", "data")
	return cmd
}

func evaluate(ctx context.Context, u *ui, f evalFlags) (_ *evalReport, err error) {
	base, m, err := f.openModel(u)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close(), base.Close()) }()
	c := f.records
	c.Model, c.Data, c.ValFraction, c.Seed, c.Ctx, c.Date = f.model, f.data, f.heldOut, f.seed, contextOf(f, m), dayOf(f)
	c = withTemplate(c, f)
	if err := c.ValidateRecords(); err != nil {
		return nil, err
	}
	windows, err := heldOut(ctx, u, c, m)
	if err != nil {
		return nil, err
	}
	notes := windows.Stats().Notes(c.Ctx)
	for _, note := range notes {
		u.warn(note)
	}
	ngrams, err := countNGrams(ctx, f, m, c, windows)
	if err != nil {
		return nil, err
	}
	e, err := eval.NewEvaluator(m, c.Ctx, f.threads)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	detach, err := attach(u, e, base, f.adapters)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, detach()) }()
	loss, err := e.Loss(ctx, windows.All(), func(done int) {
		u.counting("window", done, windows.Len())
	})
	if err != nil {
		return nil, err
	}
	return &evalReport{Loss: loss, Perplexity: loss.Perplexity(), Tokens: int64(windows.Stats().TrainedTokens),
		Windows: windows.Len(), Ctx: c.Ctx, Records: windows.Stats().Records, Notes: notes, NGram: ngrams}, nil
}

// addRoom adds the flags that say with what context, threads and device a model is run.
func (f *evalFlags) addRoom(flags *pflag.FlagSet, ofWhat string) {
	flags.IntVar(&f.ctx, "ctx", 0, "context in tokens"+ofWhat+"; 0 is the model's, at most 4096")
	flags.IntVar(&f.threads, "threads", 0, "threads; 0 is one per physical core")
	f.deviceFlags.add(flags)
}

// openModel opens the base that the flags name and loads it where they say.
func (f evalFlags) openModel(u *ui) (*model.Base, *llama.Model, error) {
	on, err := f.deviceFlags.choose(u)
	if err != nil {
		return nil, nil, err
	}
	return openModel(f.model, on)
}

// openModel opens a base and loads it in llama.cpp.
func openModel(path string, on device.Placement) (*model.Base, *llama.Model, error) {
	base, err := model.Open(path)
	if err != nil {
		return nil, nil, err
	}
	m, err := native.Load(base, on)
	if err != nil {
		return nil, nil, errors.Join(err, base.Close())
	}
	return base, m, nil
}

// heldOut reads what is to be measured by the settings of a run.
func heldOut(ctx context.Context, u *ui, c run.Config, m *llama.Model) (*data.Windows, error) {
	return data.LoadHeldOut(ctx, c, m.Vocab(), chat.SourceOf(m), u.reading())
}

// countNGrams measures an n-gram model on the same windows, if one was asked for.
func countNGrams(ctx context.Context, f evalFlags, m *llama.Model, c run.Config, windows *data.Windows) (*ngramReport, error) {
	if f.ngram == "" {
		return nil, nil
	}
	loss, err := eval.NGramLoss(ctx, m, c, f.ngram, f.order, windows)
	if err != nil {
		return nil, err
	}
	return &ngramReport{f.order, loss, loss.Perplexity()}, nil
}

// dayOf returns the day that was asked for, that of the run that is evaluated, or today, which an app would tell.
func dayOf(f evalFlags) string {
	if f.records.Date != "" {
		return f.records.Date
	}
	for _, a := range f.adapters {
		if s, err := parseScaled(a); err == nil {
			if c, err := run.LoadSaved(s.path); err == nil && c.Date != "" {
				return c.Date
			}
		}
	}
	return f.records.Dated(time.Now()).Date
}

// withTemplate returns the settings with the chat template, and its arguments, of the run that is evaluated, if it was given
// any and c is not.
func withTemplate(c run.Config, f evalFlags) run.Config {
	for _, a := range f.adapters {
		s, err := parseScaled(a)
		if err != nil {
			continue
		}
		saved, err := run.LoadSaved(s.path)
		if err != nil {
			continue
		}
		if c.Template == "" {
			c.Template = saved.Template
		}
		if c.TemplateArg == "" {
			c.TemplateArg = saved.TemplateArg
		}
	}
	return c
}

// contextOf returns the context that was asked for, that of the run that is evaluated, or 512 if the model takes so
// many.
func contextOf(f evalFlags, m *llama.Model) int {
	if f.ctx > 0 {
		return f.ctx
	}
	for _, a := range f.adapters {
		if s, err := parseScaled(a); err == nil {
			if c, err := run.LoadSaved(s.path); err == nil {
				return c.Ctx
			}
		}
	}
	const usual = 512
	if most := m.NCtxTrain(); most > 0 {
		return min(usual, most)
	}
	return usual
}

// attach puts the adapters named on the command line on the evaluator. One that was made for another base is refused if
// its shapes do not fit, and warned of if they do.
func attach(u *ui, e *eval.Evaluator, base *model.Base, specs []string) (detach func() error, err error) {
	var all []func() error
	detach = func() error {
		var err error
		for _, d := range all {
			err = errors.Join(err, d())
		}
		return err
	}
	for _, spec := range specs {
		s, err := parseScaled(spec)
		if err != nil {
			return nil, errors.Join(err, detach())
		}
		d, err := attachOne(u, e, base, s)
		if err != nil {
			return nil, errors.Join(err, detach())
		}
		all = append(all, d)
	}
	return detach, nil
}

func attachOne(u *ui, e *eval.Evaluator, base *model.Base, s scaled) (detach func() error, err error) {
	if err := checkAdapter(u, s.path, base); err != nil {
		return nil, err
	}
	return e.Attach(s.path, s.scale)
}

// checkAdapter refuses an adapter that does not fit the base, and warns of one that was trained on another.
func checkAdapter(u *ui, path string, base *model.Base) error {
	err := run.CheckAdapter(path, base)
	switch {
	case errors.Is(err, adapter.ErrOtherBase):
		u.warn(err.Error(), "an adapter works only with the model it was trained on, or a quantization of it")
	case errors.Is(err, adapter.ErrOtherWeights):
		u.warn(err.Error(), "a quantization of the same model will do; what a merge or a training has made of it will not")
	default:
		return err
	}
	return nil
}

// required makes missing flags an error of usage.
func required(cmd *cobra.Command, names ...string) {
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		for _, name := range names {
			if cmd.Flags().Lookup(name).Value.String() == "" {
				return wrongUsage(cmd, "--%s is missing", name)
			}
		}
		return nil
	}
}
