package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"finetune/classify"
	"finetune/eval"
	"finetune/internal/hint"
	"finetune/model"
	"finetune/run"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// headOf returns the classifier of the run directory that is evaluated, or of the model itself.
func headOf(f evalFlags, base *model.Base, nEmbd int) (*classify.Head, error) {
	id, err := base.Identity()
	if err != nil {
		return nil, err
	}
	if path := classifierOf(f.adapters); path != "" {
		h, err := classify.Load(path)
		if err != nil {
			return nil, err
		}
		if err := h.CheckBase(id.Architecture, id.Hash, nEmbd); err != nil {
			return nil, fmt.Errorf("%q: %w", path, err)
		}
		return h, nil
	}
	h, err := classify.OfModel(base.File, id.Hash)
	if err == nil && h == nil {
		err = hint.With(fmt.Errorf("model %q: has no classifier", base.Path()),
			"--adapter RUNDIR takes the one of a run of train --task classify or rerank; beside an adapter's file it is called "+run.ClassifierFile)
	}
	return h, err
}

// withReader opens the model and an evaluator of states, with the adapters on it, for the time of do.
func withReader(u *ui, f evalFlags, do func(*model.Base, *llama.Model, *eval.Evaluator) error) (err error) {
	base, m, err := f.openModel(u)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close(), base.Close()) }()
	e, err := eval.NewReader(m, contextOf(f, m), f.threads)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	detach, err := attach(u, e, base, f.adapters)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, detach()) }()
	return do(base, m, e)
}

// withClassifier does what withReader does, and finds the classifier of a task before anything is computed.
func withClassifier(u *ui, f evalFlags, task string, do func(*llama.Model, *classify.Head, *eval.Evaluator) error) error {
	return withReader(u, f, func(base *model.Base, m *llama.Model, e *eval.Evaluator) error {
		h, err := headOf(f, base, m.NEmbd())
		if err != nil {
			return err
		}
		if err := checkTask(h, task); err != nil {
			return err
		}
		return do(m, h, e)
	})
}

// evaluateClasses is finetune eval --task classify.
func evaluateClasses(ctx context.Context, u *ui, f evalFlags) error {
	return withClassifier(u, f, run.TaskClassify, func(m *llama.Model, h *classify.Head, e *eval.Evaluator) error {
		c := f.records
		c.Model, c.Data, c.Ctx = f.model, f.data, e.NCtx()
		if err := c.ValidateRecords(); err != nil {
			return err
		}
		windows, err := data.LoadClassified(ctx, c, m.Vocab(), h.Labels, u.reading())
		if err != nil {
			return err
		}
		texts, right := windows.Classified()
		p, err := e.Classify(ctx, texts, h, func(done int) { u.progress("text %d of %d", done, len(texts)) })
		if err != nil {
			return err
		}
		r := eval.GradeClasses(h.Labels, p, right)
		if u.json {
			return u.printJSON(r)
		}
		return printClasses(u.results(), r)
	})
}

// mostShown is up to how many classes the table of confusions is drawn.
const mostShown = 12

func printClasses(w io.Writer, r *eval.Classification) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\taccuracy\tMatthews\tF1\tloss\tcalibration error\n", count(r.Texts, "text"))
	fmt.Fprintf(t, "\t%s\t%.4f\t%.4f\t%.4f\t%.4f\n\n", uncertain(r.Share, r.StdErr), r.Matthews, r.F1, float64(r.Loss), r.Calibration)
	fmt.Fprint(t, "class\ttexts\tprecision\trecall\tF1")
	for k := range r.Classes[:min(len(r.Classes), mostShown)] {
		fmt.Fprintf(t, "\tas %s", plain(r.Classes[k].Label))
	}
	fmt.Fprintln(t)
	for k, c := range r.Classes {
		fmt.Fprintf(t, "%s\t%s\t%.3f\t%.3f\t%.3f", plain(c.Label), thousands(int64(c.Texts)), c.Precision, c.Recall, c.F1)
		for _, n := range r.Confusion[k][:min(len(r.Classes), mostShown)] {
			fmt.Fprintf(t, "\t%s", thousands(int64(n)))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// labelled is what finetune run --task classify prints of a text with --json.
type labelled struct {
	Text        string             `json:"text"`
	Pair        string             `json:"text_pair,omitempty"`
	Label       string             `json:"label"`
	Probability float64            `json:"probability"`
	All         map[string]float64 `json:"probabilities"`
}

// classifyLines is finetune run --task classify: it answers the prompt, or line by line what comes from standard input.
func classifyLines(ctx context.Context, u *ui, f runFlags, prompted bool, in io.Reader) error {
	return withClassifier(u, f.evalFlags, run.TaskClassify, func(m *llama.Model, h *classify.Head, e *eval.Evaluator) error {
		return eachText(f, prompted, in, func(line string) error {
			text, pair, _ := strings.Cut(line, "\t")
			ids, cut, err := data.TextTokens(m.Vocab(), text, pair, e.NCtx())
			if err != nil {
				return err
			}
			u.warnOfCut(cut, e.NCtx())
			p, err := e.Classify(ctx, [][]int32{ids}, h, nil)
			if err != nil {
				return err
			}
			r := labelled{Text: text, Pair: pair, All: map[string]float64{}}
			for k, label := range h.Labels {
				if r.All[label] = float64(p[0][k]); r.All[label] > r.Probability {
					r.Label, r.Probability = label, r.All[label]
				}
			}
			if u.json {
				return u.printJSON(r)
			}
			fmt.Fprintf(u.results(), "%s\t%.4f\t%s\n", plain(r.Label), r.Probability, plain(line))
			u.flush()
			return nil
		})
	})
}

// classifierOf returns the classifier's file of the first adapter that has one, else "": in a run directory, or beside a file.
func classifierOf(specs []string) string {
	for _, spec := range specs {
		a, err := parseScaled(spec)
		if err != nil {
			continue
		}
		for _, dir := range []string{a.path, filepath.Dir(a.path)} {
			if path := filepath.Join(dir, run.ClassifierFile); isFile(path) && (dir == a.path || isFile(a.path)) {
				return path
			}
		}
	}
	return ""
}

// taskOf returns the task of the first run directory among adapters that has one, "" for text.
func taskOf(specs []string) string {
	for _, spec := range specs {
		a, err := parseScaled(spec)
		if err != nil {
			continue
		}
		if c, err := run.LoadSaved(a.path); err == nil && c.Task != "" {
			return c.Task
		}
	}
	return ""
}
