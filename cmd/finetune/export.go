package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"finetune/export"
	"finetune/gguf"
	"finetune/internal/setting"
	"finetune/model"
	"finetune/ollama"
	"finetune/run"

	"github.com/spf13/cobra"
)

func exportCommand(u *ui) *cobra.Command {
	c := export.DefaultConfig()
	var rank, kind, name string
	var beside bool
	cmd := &cobra.Command{
		Use:   "export --run RUNDIR --out adapter.gguf",
		Short: "write a run's adapter as a GGUF LoRA for llama.cpp",
		Long: "Export writes a GGUF LoRA, loads it in llama.cpp and measures what it keeps of the\n" +
			"gain in validation loss. A Dual LoRA or DoRA has a high rank: project takes the best\n" +
			"low-rank products, at the adapter's own rank where that keeps --retention of the gain;\n" +
			"heal trains those that do not for a while against the model as it was trained, on the\n" +
			"run's data; exact takes the whole change. A run with --method full needs none:\n" +
			"its model.gguf is the result. With --ollama NAME, adapter.Modelfile beside adapter.gguf\n" +
			"is what ollama create wants, and adapter-merged.gguf the model that it names.\n" +
			"After a run with a task its own loss is measured, and classifier.gguf is put beside.",
		Example: "  finetune export --run run/ --out adapter.gguf\n  finetune export --run run/ --out adapter.gguf --mode heal --rank 16\n  finetune export --run run/ --out exact.gguf --mode exact\n" +
			"  finetune export --run run/ --out adapter.gguf --ollama my-model",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.Rank, c.Smallest, err = exportRank(rank); err != nil {
				return err
			}
			if c.Type, err = gguf.ParseType(kind); err != nil {
				return &setting.Error{Key: "type", Want: "f16, f32 or q8_0", Got: strconv.Quote(kind)}
			}
			if err := c.Validate(); err != nil {
				return err
			}
			if cmd.Flags().Changed("ollama") && ollama.CheckName(name) != nil {
				return wrongUsage(cmd, "--ollama: want a name such as my-model or tom/my-model:v1, got %q", name)
			}
			if beside && name == "" {
				return wrongUsage(cmd, "--ollama-adapter: want --ollama NAME with it")
			}
			if c.Model, err = savedModel(cmd.Context(), u, c.Run, c.Model); err != nil {
				return err
			}
			if err := checkOut(c.Out, c.Force, c.Run, c.Model); err != nil {
				return err
			}
			o, err := ollamaConfig(c, name, beside, c.Force)
			if err != nil {
				return err
			}
			startEngine(u, c.Threads)
			warnOfExportBase(u, c)
			r, err := export.Run(cmd.Context(), c, func(what string) {
				if !u.progress("%s", what) {
					u.say("%s", what)
				}
			})
			if err != nil {
				return err
			}
			if err := run.AddExport(c.Run, r); err != nil {
				u.warn(fmt.Sprintf("the run keeps no note of this export: %s", errorText(err)))
			}
			written, err := modelfile(cmd.Context(), u, o)
			if err != nil {
				return err
			}
			warnOfTemplate(u, c.Run)
			if u.json {
				return u.printJSON(exportReport{r, written})
			}
			return errors.Join(printExport(u.results(), c, r), printModelfile(u.results(), written))
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&c.Run, "run", "", "run directory of finetune train")
	flags.StringVar(&c.Out, "out", "", "GGUF LoRA to write")
	flags.BoolVar(&c.Force, "force", false, "replace --out if it exists, and a classifier beside it")
	flags.StringVar(&c.Mode, "mode", c.Mode, "project, heal or exact")
	flags.StringVar(&rank, "rank", "auto", "project and heal: auto, which is the adapter's own if it keeps --retention, else more; smallest, as few parameters as keep it; or one rank for every matrix")
	flags.Float64Var(&c.Retention, "retention", c.Retention, "share of the gain that --rank auto and smallest have to keep")
	flags.IntVar(&c.HealSteps, "heal-steps", 0, "heal: steps to train a projection; 0 is a quarter of the run's, 20 to 200")
	flags.StringVar(&kind, "type", c.Type.String(), "type of the factors: f16, f32 or q8_0")
	flags.StringVar(&name, "ollama", "", "write a Modelfile and a merged model beside --out too, for an Ollama model of this name")
	flags.BoolVar(&beside, "ollama-adapter", false, "with --ollama: name base and adapter in the Modelfile, for Ollama before 0.34.1")
	modelFlag(flags, &c.Model, modelNames+", if it is no longer where the run found it")
	flags.IntVar(&c.Threads, "threads", 0, "threads; 0 is one per physical core")
	flags.StringVar(&c.Device, "device", c.Device, deviceUsage)
	flags.IntVar(&c.GPULayers, "gpu-layers", c.GPULayers, gpuLayersUsage)
	required(cmd, "run", "out")
	return cmd
}

// savedModel returns the base that is given for a run, or the one that the run's name for it stands for where its file is gone;
// empty where it is to be found as the run found it.
func savedModel(ctx context.Context, u *ui, dir, given string) (string, error) {
	saved, err := run.LoadSaved(dir)
	if given != "" || err != nil { // which is for export to tell
		return given, nil
	}
	at := saved.Model
	if err := nameModel(ctx, u, &saved); err != nil || saved.Model == at {
		return "", err
	}
	return saved.Model, nil
}

// exportBase returns the base that a run is exported over.
func exportBase(c export.Config) (string, error) {
	if c.Model != "" {
		return c.Model, nil
	}
	saved, err := run.LoadSaved(c.Run)
	return saved.Model, err
}

// warnOfExportBase warns where that has other weights than the run was trained on. What cannot be read at all is for export
// to refuse.
func warnOfExportBase(u *ui, c export.Config) {
	path, err := exportBase(c)
	if err != nil {
		return
	}
	if base, err := model.Open(path); err == nil {
		defer base.Close()
		_ = checkAdapter(u, c.Run, base)
	}
}

// warnOfTemplate tells that a run was trained with another chat template than its base has, which no app knows.
func warnOfTemplate(u *ui, dir string) {
	if c, err := run.LoadSaved(dir); err == nil && c.Template != "" {
		u.warn(fmt.Sprintf("the run was trained with the chat template %q, which an app has to be given in place of the model's", c.Template),
			"llama-server takes it by --jinja --chat-template-file FILE")
	}
}

// exportRank returns the rank that was asked for, 0 for auto and for smallest.
func exportRank(s string) (rank int, smallest bool, err error) {
	if s == "auto" || s == "smallest" {
		return 0, s == "smallest", nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, false, &setting.Error{Key: "rank", Want: "auto, smallest or a number of 1 or more", Got: strconv.Quote(s)}
	}
	return n, false, nil
}

func printExport(w io.Writer, c export.Config, r *export.Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("file", "%s, %s bytes", plain(r.File), thousands(r.Bytes))
	if r.Classifier != "" {
		row("classifier", "%s", plain(r.Classifier))
	}
	row("parameters", "%s, rank %s", thousands(int64(r.Parameters)), span(r.RankMin, r.RankMax))
	if r.ExportLoss.Measured() {
		if r.Task != "" {
			row("task", "%s: losses by the training engine", r.Task)
		}
		row("loss of the base", "%.4f", float64(r.BaseLoss))
		if r.DualLossBy == export.ByEngine && r.Task == "" {
			row("loss as trained", "%.4f, by the training engine", float64(r.DualLoss))
		} else {
			row("loss as trained", "%.4f", float64(r.DualLoss))
		}
		row("loss as exported", "%.4f", float64(r.ExportLoss))
	}
	switch {
	case r.Retention.Measured():
		row("retention", "%.1f %%", 100*float64(r.Retention))
	case r.ExportLoss.Measured():
		row("retention", "none: the adapter does not lower the validation loss")
	default:
		row("retention", "not measured: the run held no validation data out")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(r.Tensors) > 0 {
		fmt.Fprintln(t, "\nmatrix\trank\tenergy kept")
	}
	for _, m := range r.Tensors {
		fmt.Fprintf(t, "%s\t%d\t%.1f %%\n", plain(m.Name), m.Rank, 100*m.Energy)
	}
	if r.Mode != export.ModeExact && c.Rank == 0 && float64(r.Retention) < c.Retention {
		fmt.Fprintf(t, "\n%.1f %% was asked for; --mode exact keeps all of it\n", 100*c.Retention)
	}
	return t.Flush()
}

// span returns one number, or two with a dash.
func span(from, to int) string {
	if from == to {
		return strconv.Itoa(from)
	}
	return fmt.Sprintf("%d–%d", from, to)
}
