package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"finetune/adapter/fileops"
	"finetune/eval"
	"finetune/model"
	"finetune/run"

	"github.com/go-skynet/go-llama.cpp/llama"
	"github.com/spf13/cobra"
)

// diffReport is what finetune adapter diff prints.
type diffReport struct {
	*fileops.Difference
	Logits *logitsReport `json:"logits,omitempty"` // with --model
}

// logitsReport is how the two change what the model says.
type logitsReport struct {
	*eval.Comparison
	Model   string `json:"model"`
	Windows int    `json:"windows"`
	Ctx     int    `json:"ctx"`
}

func diffCommand(u *ui) *cobra.Command {
	var f evalFlags
	cmd := &cobra.Command{
		Use:   "diff A B [--model base.gguf --data FILE]",
		Short: "compare two adapters, by their matrices and by what they make a model say",
		Long: "Diff compares the changes ΔW of two adapters matrix by matrix. With --model and --data it\n" +
			"also compares what llama.cpp computes with either of them on a text: the divergence\n" +
			"KL(A‖B) of the predictions, how often both put the same token first, and the losses.",
		Example: "  finetune adapter diff run/ adapter.gguf\n  finetune adapter diff a.gguf b.gguf --model base.gguf --data val.txt --json",
		Args:    exactly("A", "B"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (f.model == "") != (f.data == "") {
				return wrongUsage(cmd, "want both --model and --data, or neither")
			}
			r, err := diffAdapters(cmd.Context(), u, args[0], args[1], f)
			if err != nil {
				return err
			}
			u.warnOtherBase(r.OtherBase)
			if u.json {
				return u.printJSON(r)
			}
			return printDiff(u.results(), r)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	modelFlag(flags, &f.model, modelNames)
	flags.StringVar(&f.data, "data", "", "text (.txt) or records (.jsonl, .json) to compare predictions on")
	flags.IntVar(&f.ctx, "ctx", 0, "tokens in a sequence; 0 is the run's, or 512 if the model takes that many")
	flags.IntVar(&f.threads, "threads", 0, "threads; 0 is one per physical core")
	f.deviceFlags.add(flags)
	return cmd
}

func diffAdapters(ctx context.Context, u *ui, a, b string, f evalFlags) (*diffReport, error) {
	fileA, err := run.AdapterPath(a)
	if err != nil {
		return nil, err
	}
	fileB, err := run.AdapterPath(b)
	if err != nil {
		return nil, err
	}
	d, err := fileops.Diff(ctx, fileA, fileB)
	if err != nil || f.model == "" {
		return &diffReport{Difference: d}, err
	}
	startEngine(u, f.threads)
	f.adapters = []string{a, b} // the run's context is theirs
	logits, err := compareLogits(ctx, u, fileA, fileB, f)
	return &diffReport{d, logits}, err
}

// compareLogits loads the model once and gives each adapter a context of its own.
func compareLogits(ctx context.Context, u *ui, a, b string, f evalFlags) (_ *logitsReport, err error) {
	base, m, err := f.openModel(u)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close(), base.Close()) }()
	c := run.DefaultConfig()
	c.Data, c.ValFraction, c.Ctx = f.data, 0, contextOf(f, m)
	windows, err := heldOut(ctx, u, c, m)
	if err != nil {
		return nil, err
	}
	r := &logitsReport{Model: f.model, Windows: windows.Len(), Ctx: c.Ctx}
	err = withAdapter(u, base, m, a, c.Ctx, f, func(first *eval.Evaluator) error {
		return withAdapter(u, base, m, b, c.Ctx, f, func(second *eval.Evaluator) (err error) {
			r.Comparison, err = eval.Compare(ctx, first, second, windows.All(), func(done int) {
				u.counting("window", done, windows.Len())
			})
			return err
		})
	})
	return r, err
}

// withAdapter opens a context with one adapter for the time of do.
func withAdapter(u *ui, base *model.Base, m *llama.Model, path string, nCtx int, f evalFlags, do func(*eval.Evaluator) error) (err error) {
	e, err := eval.NewEvaluator(m, nCtx, f.threads)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	detach, err := attachOne(u, e, base, scaled{path, 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, detach()) }()
	return do(e)
}

func printDiff(w io.Writer, r *diffReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("A", "%s", plain(r.A))
	row("B", "%s", plain(r.B))
	if r.OnlyA > 0 {
		row("only in A", "%s", counted(r.OnlyA, "matrix", "matrices"))
	}
	if r.OnlyB > 0 {
		row("only in B", "%s", counted(r.OnlyB, "matrix", "matrices"))
	}
	if l := r.Logits; l != nil {
		row("loss with A", "%.4f", float64(l.LossA))
		row("loss with B", "%.4f", float64(l.LossB))
		row("KL(A‖B)", "%.3g nats a token, over %s tokens in %s of %d", l.KL, thousands(l.Tokens), count(l.Windows, "window"), l.Ctx)
		row("same first token", "%.2f %%", 100*l.Agreement)
		row("largest change of a logit", "%.3g", l.MaxLogitChange)
	}
	fmt.Fprintln(t, "\nmatrix\trank A\trank B\t‖ΔW A‖\t‖ΔW B‖\t‖ΔW A − ΔW B‖\tcosine")
	for _, d := range r.Tensors {
		diffRow(t, plain(d.Name), d)
	}
	diffRow(t, "all", r.Total)
	return t.Flush()
}

func diffRow(w io.Writer, name string, d fileops.TensorDiff) {
	cosine := "–"
	if d.Cosine != nil {
		cosine = fmt.Sprintf("%.4f", *d.Cosine)
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, rankText(d.RankA), rankText(d.RankB),
		number(d.NormA), number(d.NormB), number(d.Distance), cosine)
}

// rankText returns a rank, and a dash where there are no factors.
func rankText(rank int) string {
	if rank == 0 {
		return "–"
	}
	return thousands(int64(rank))
}
