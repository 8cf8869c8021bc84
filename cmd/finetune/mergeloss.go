package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"text/tabwriter"
	"time"

	"finetune/chat"
	"finetune/device"
	"finetune/eval"
	"finetune/model"
	"finetune/run"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// mergeLosses are measured by llama.cpp on the same windows, null if they are not.
type mergeLosses struct {
	Base        eval.Loss `json:"base_loss"`
	Adapter     eval.Loss `json:"adapter_loss"` // of the base with the adapters
	Merged      eval.Loss `json:"merged_loss"`
	BasePPL     eval.Loss `json:"base_perplexity"`
	AdapterPPL  eval.Loss `json:"adapter_perplexity"`
	MergedPPL   eval.Loss `json:"merged_perplexity"`
	Retention   eval.Loss `json:"retention"`              // (base − merged)/(base − adapter), null without a gain
	NotMeasured string    `json:"not_measured,omitempty"` // why

	windows []data.Window
	ctx     int
	threads int
	on      device.Placement
}

// measureBase finds the text to measure on, and the losses before the merge.
func measureBase(ctx context.Context, u *ui, f mergeFlags) (_ *mergeLosses, err error) {
	none := eval.NotMeasured
	l := &mergeLosses{Base: none, Adapter: none, Merged: none, BasePPL: none, AdapterPPL: none, MergedPPL: none, Retention: none, threads: f.threads}
	if task := taskOf(f.adapters); task != "" {
		l.NotMeasured = "finetune eval --task " + task + " measures what was learned"
		return l, nil
	}
	dir, isRun := firstRun(f.adapters)
	if f.data == "" && !isRun {
		l.NotMeasured = "no adapter is a run directory; give --data FILE"
		return l, nil // before the model takes memory
	}
	if l.on, err = f.deviceFlags.choose(u); err != nil {
		return nil, err
	}
	base, m, err := openModel(f.model, l.on)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close(), base.Close()) }()
	l.ctx = contextOf(evalFlags{ctx: f.ctx, adapters: f.adapters}, m)
	if err := l.chooseWindows(ctx, u, m, f, dir); err != nil || len(l.windows) == 0 {
		return l, err
	}
	if l.Base, err = l.measure(ctx, u, "the base", base, m, nil); err != nil {
		return nil, err
	}
	l.BasePPL = eval.Loss(l.Base.Perplexity())
	l.Adapter, err = l.measure(ctx, u, "the base with adapters", base, m, f.adapters)
	switch {
	case errors.Is(err, eval.ErrExactTooLarge): // to be loaded beside the base; a merge takes it weight by weight
		l.Adapter = none
		u.warn(errorText(err), "the losses of the base and of the merged model are measured all the same")
	case err != nil:
		return nil, err
	}
	l.AdapterPPL = eval.Loss(l.Adapter.Perplexity())
	return l, nil
}

// firstRun returns the first run directory among the adapters.
func firstRun(adapters []string) (path string, ok bool) {
	for _, spec := range adapters {
		if a, err := parseScaled(spec); err == nil && isFile(filepath.Join(a.path, run.ConfigFile)) {
			return a.path, true
		}
	}
	return "", false
}

// chooseWindows reads --data, or else what the run held out.
func (l *mergeLosses) chooseWindows(ctx context.Context, u *ui, m *llama.Model, f mergeFlags, dir string) error {
	c, file := run.DefaultConfig(), f.data
	if file != "" {
		c.Data, c.ValFraction = file, 0
		c = c.Dated(time.Now())
	} else {
		var err error
		if c, err = run.LoadSaved(dir); err != nil {
			return err
		}
	}
	c.Model, c.Ctx = f.model, l.ctx
	windows, val, err := data.LoadRun(ctx, c, m.Vocab(), chat.SourceOf(m), u.reading())
	if file == "" {
		windows = val
	}
	switch {
	case file == "" && errors.Is(err, fs.ErrNotExist):
		l.NotMeasured = fmt.Sprintf("the data of run %q is gone; give --data FILE", dir)
	case err != nil:
		return err
	case windows.Len() == 0:
		l.NotMeasured = fmt.Sprintf("run %q held nothing out; give --data FILE", dir)
	default:
		l.windows = windows.All()
	}
	return nil
}

// measureMerged finds the loss of the file that was written.
func (l *mergeLosses) measureMerged(ctx context.Context, u *ui, path string) (err error) {
	if len(l.windows) == 0 {
		return nil
	}
	base, m, err := openModel(path, l.on)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close(), base.Close()) }()
	if l.Merged, err = l.measure(ctx, u, "the merged model", base, m, nil); err != nil {
		return err
	}
	l.MergedPPL = eval.Loss(l.Merged.Perplexity())
	if gain := l.Base - l.Adapter; gain > 0 {
		l.Retention = (l.Base - l.Merged) / gain
	}
	return nil
}

func (l *mergeLosses) measure(ctx context.Context, u *ui, what string, base *model.Base, m *llama.Model, adapters []string) (loss eval.Loss, err error) {
	if !u.progress("measuring %s", what) {
		u.say("measuring %s", what)
	}
	e, err := eval.NewEvaluator(m, l.ctx, l.threads)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	detach, err := attach(u, e, base, adapters)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, detach()) }()
	return e.Loss(ctx, l.windows, func(done int) { u.counting("measuring "+what+": window", done, len(l.windows)) })
}

// littleKept is the share of the gain below which another type is advised.
const littleKept = 0.95

func printLosses(w io.Writer, l *mergeLosses) error {
	if l.NotMeasured != "" {
		_, err := fmt.Fprintf(w, "\nlosses not measured: %s\n", l.NotMeasured)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nmodel\tloss\tperplexity")
	for _, row := range []struct {
		name string
		loss eval.Loss
	}{{"base", l.Base}, {"base with adapters", l.Adapter}, {"merged", l.Merged}} {
		if !row.loss.Measured() {
			fmt.Fprintf(t, "%s\tnot measured\n", row.name)
			continue
		}
		fmt.Fprintf(t, "%s\t%.4f\t%.2f\n", row.name, float64(row.loss), row.loss.Perplexity())
	}
	if l.Retention.Measured() {
		fmt.Fprintf(t, "\nretention\t%.1f %%\n", 100*float64(l.Retention))
	}
	if float64(l.Retention) < littleKept {
		fmt.Fprintln(t, "\nrounding takes the rest; a finer --type such as q8_0 keeps more, an adapter beside the base all")
	}
	return t.Flush()
}
