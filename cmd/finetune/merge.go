package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"text/tabwriter"

	"finetune/classify"
	"finetune/gguf"
	"finetune/imatrix"
	"finetune/internal/setting"
	"finetune/merge"
	"finetune/model"
	"finetune/quant"
	"finetune/run"

	"github.com/spf13/cobra"
)

// mergeFlags are those of finetune merge.
type mergeFlags struct {
	model    string
	adapters []string
	out      string
	kind     string
	imatrix  string
	split    string
	data     string
	ctx      int
	threads  int
	force    bool
	deviceFlags
}

// mergeReport is what finetune merge prints.
type mergeReport struct {
	File           string `json:"file"` // of several the first
	TensorsChanged int    `json:"tensors_changed"`
	*mergeLosses
	*merge.Result
	IMatrix string `json:"imatrix,omitempty"`
}

func mergeCommand(u *ui) *cobra.Command {
	var f mergeFlags
	cmd := &cobra.Command{
		Use:   "merge --model base.gguf --adapter FILE|RUNDIR[:SCALE] --out merged.gguf",
		Short: "write a model with adapters merged into its weights",
		Long: "Merge writes the base with W + ΔW in the place of each adapted weight, in that weight's\n" +
			"own type or in --type. All else is copied byte for byte. It reports how much of each ΔW\n" +
			"is left after rounding, and the losses of the base, of the base with the adapters and of the\n" +
			"merged model, measured by llama.cpp on --data or on what the run held out.",
		Example: "  finetune merge --model base.gguf --adapter run/ --out merged.gguf\n  finetune merge --model base.gguf --adapter a.gguf --adapter b.gguf:0.5 --out merged.gguf --type q8_0\n" +
			"  finetune merge --model base.gguf --adapter adapter.gguf --out merged.gguf --imatrix imatrix.gguf --split-max-size 2GiB",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.threads > 0 {
				runtime.GOMAXPROCS(f.threads)
			}
			r, err := mergeModel(cmd.Context(), u, f)
			if err != nil {
				return err
			}
			if u.json {
				return u.printJSON(r)
			}
			return printMerge(u.results(), r)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	modelFlag(flags, &f.model, modelNames)
	flags.StringArrayVar(&f.adapters, "adapter", nil, "adapter file of any method or run directory, with :SCALE if not 1; may be given several times")
	flags.StringVar(&f.out, "out", "", "GGUF to write")
	flags.BoolVar(&f.force, "force", false, "replace --out if it exists")
	flags.StringVar(&f.kind, "type", "", "type of the adapted tensors, such as q8_0 or q4_K; without it each keeps its own")
	flags.StringVar(&f.imatrix, "imatrix", "", "importance matrix to quantize by; without it that of a run directory, if it has one")
	flags.StringVar(&f.split, "split-max-size", "", "split what is larger, such as 2GiB, into parts")
	flags.StringVar(&f.data, "data", "", "text or records to measure losses on; without it what the first run directory held out")
	flags.IntVar(&f.ctx, "ctx", 0, "tokens in a sequence of --data; 0 is the run's, or 512 if the model takes that many")
	flags.IntVar(&f.threads, "threads", 0, "threads; 0 is one per physical core, for the merge itself all there are")
	f.deviceFlags.add(flags)
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case f.model == "":
			return wrongUsage(cmd, "--model is missing")
		case len(f.adapters) == 0:
			return wrongUsage(cmd, "--adapter is missing")
		case f.out == "":
			return wrongUsage(cmd, "--out is missing")
		}
		return nil
	}
	return cmd
}

// mergeModel measures, merges and measures again. After an error there is no file.
func mergeModel(ctx context.Context, u *ui, f mergeFlags) (_ *mergeReport, err error) {
	if err := f.checkOut(); err != nil {
		return nil, err
	}
	c, err := mergeConfig(u, f)
	if err != nil {
		return nil, err
	}
	if err := merge.Check(c); err != nil {
		return nil, err
	}
	startEngine(u, f.threads)
	losses, err := measureBase(ctx, u, f)
	if err != nil {
		return nil, err
	}
	for _, a := range f.adapters {
		if s, err := parseScaled(a); err == nil {
			warnOfTemplate(u, s.path)
		}
	}
	r, err := merge.Merge(ctx, c, func(done, total int) { u.counting("tensor", done, total) })
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, path := range r.Files {
			if err != nil {
				err = errors.Join(err, os.Remove(path))
			}
		}
	}()
	if err := losses.measureMerged(ctx, u, r.Files[0]); err != nil {
		return nil, err
	}
	return &mergeReport{File: r.Files[0], TensorsChanged: len(r.Tensors), mergeLosses: losses, Result: r, IMatrix: c.IMatrix}, nil
}

// checkOut refuses an --out in the place of what is read.
func (f mergeFlags) checkOut() error {
	inputs := []string{f.model, f.imatrix, f.data}
	for _, spec := range f.adapters {
		if a, err := parseScaled(spec); err == nil {
			inputs = append(inputs, a.path)
		}
	}
	return checkOut(f.out, f.force, inputs...)
}

// mergeConfig puts flags into the terms of the library, and warns of an adapter that was made for another base.
func mergeConfig(u *ui, f mergeFlags) (merge.Config, error) {
	c := merge.Config{Model: f.model, Out: f.out, Force: f.force, IMatrix: f.imatrix}
	base, err := model.Open(f.model)
	if err != nil {
		return c, err
	}
	defer base.Close()
	if c.Classifier, err = mergedClassifier(u, base, f.adapters); err != nil {
		return c, err
	}
	for _, spec := range f.adapters {
		a, err := parseScaled(spec)
		if err != nil {
			return c, err
		}
		path, err := run.AdapterPath(a.path)
		if err != nil {
			return c, err
		}
		c.Adapters = append(c.Adapters, merge.Adapter{Path: path, Scale: a.scale})
		if gathered := filepath.Join(a.path, imatrix.FileName); c.IMatrix == "" && isFile(gathered) {
			c.IMatrix = gathered
		}
		if err := checkAdapter(u, path, base); err != nil {
			return c, err
		}
	}
	if f.kind != "" {
		kind, err := gguf.ParseType(f.kind)
		if err != nil || !quant.CanEncode(kind) {
			return c, &setting.Error{Key: "type", Want: "a tensor type, such as f16, q8_0 or q4_K", Got: strconv.Quote(f.kind)}
		}
		c.Type = &kind
	}
	if f.split != "" {
		bytes, err := setting.ParseBytes(f.split)
		if err != nil {
			return c, &setting.Error{Key: "split-max-size", Want: "a number with a unit, such as 2GiB", Got: strconv.Quote(f.split)}
		}
		c.SplitMaxSize = bytes
	}
	if f.threads < 0 {
		return c, &setting.Error{Key: "threads", Want: "0 or more", Got: strconv.Itoa(f.threads)}
	}
	return c, nil
}

// mergedClassifier returns the classifier that goes into the model with the adapters, else "". That of a run directory must; one beside
// an adapter's file stays away, with a warning, where the model has no place for it.
func mergedClassifier(u *ui, base *model.Base, specs []string) (string, error) {
	path := classifierOf(specs)
	if path == "" || slices.ContainsFunc(specs, func(spec string) bool {
		a, err := parseScaled(spec)
		return err == nil && filepath.Join(a.path, run.ClassifierFile) == path
	}) {
		return path, nil
	}
	h, err := classify.Load(path)
	if err != nil {
		return "", err
	}
	id, err := base.Identity()
	if err != nil {
		return "", err
	}
	if err := errors.Join(h.CheckBase(id.Architecture, id.Hash, h.NEmbd()), h.CheckMerge()); err != nil {
		u.warn(fmt.Sprintf("%q beside the adapter is left out: %v", path, err))
		return "", nil
	}
	return path, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func printMerge(w io.Writer, r *mergeReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "tensor\ttype\tΔW / W\terror\tof the type\terror / ΔW\tkept")
	for _, m := range r.Tensors {
		kind := m.Type
		if m.BaseType != m.Type {
			kind = m.BaseType + " → " + m.Type
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", plain(m.Name), kind,
			percent(m.Change), percent(m.Error), percent(m.TypeError), percent(m.Lost), percent(m.Kept))
	}
	fmt.Fprintln(t)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	for _, path := range r.Files {
		row("file", "%s", plain(path))
	}
	row("size", "%s bytes, %s changed", thousands(r.Bytes), count(r.TensorsChanged, "tensor"))
	if r.IMatrix != "" {
		row("importance", "%s", plain(r.IMatrix))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return printLosses(w, r.mergeLosses)
}

// percent returns a share with the digits that tell something.
func percent(share float64) string {
	switch p := 100 * math.Abs(share); {
	case p >= 10:
		return fmt.Sprintf("%.1f %%", 100*share)
	case p >= 0.01 || p == 0:
		return fmt.Sprintf("%.2f %%", 100*share)
	}
	return fmt.Sprintf("%.0e %%", 100*share)
}
