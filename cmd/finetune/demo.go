package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"finetune/demo"
	"finetune/internal/hint"

	"github.com/guptarohit/asciigraph"
	"github.com/spf13/cobra"
)

// demoFlags are those of finetune demo.
type demoFlags struct {
	demo.Options
	deviceFlags
	embedded bool
}

// demoModel is the chat model that a demo takes where --model names none.
const demoModel = "smollm2"

func demoCommand(u *ui) *cobra.Command {
	f := demoFlags{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "run the whole workflow on a chat model and a task that comes with the program",
		Long: "Demo trains a Dual LoRA over a chat model, which learns to answer sentences in one JSON\n" +
			"form, exports it, loads the file in llama.cpp and shows answers before and after, also\n" +
			"to questions that have nothing to do with the task. The model is SmolLM2-135M-Instruct,\n" +
			"if scripts/real-model has brought it, or what --model names. Without one, or with\n" +
			"--embedded, it is a base of 4 million parameters that comes with the program, and an\n" +
			"easier task. It takes some minutes, or about one, and uses no network unless the name\n" +
			"of a --model asks for that.",
		Example: "  finetune demo\n  finetune demo --embedded\n  finetune demo --model hf.co/bartowski/SmolLM2-360M-Instruct-GGUF:Q8_0",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.embedded && f.Model != "" {
				return wrongUsage(cmd, "want --model or --embedded, not both")
			}
			startEngine(u, f.Threads)
			if err := f.choose(cmd.Context(), u); err != nil {
				return err
			}
			return runDemo(cmd.Context(), u, f.Options)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	modelFlag(flags, &f.Model, "chat `MODEL`: a GGUF file, or a name that finetune models explains; if not given "+demoModel+" where it is, else the embedded base")
	flags.BoolVar(&f.embedded, "embedded", false, "take the base that comes with the program")
	flags.StringVar(&f.Dir, "out", "finetune-demo", "folder for its files; if it exists, a number is appended to the name")
	flags.IntVar(&f.Threads, "threads", 0, "threads; 0 is one per physical core")
	f.deviceFlags.add(flags)
	return cmd
}

// choose finds the model and the device.
func (f *demoFlags) choose(ctx context.Context, u *ui) error {
	f.Device, f.GPULayers = f.device, f.gpuLayers
	if f.Model == "" && !f.embedded {
		found, err := u.findModel(ctx, demoModel)
		if err != nil {
			u.warn("no chat model, so a small embedded base learns a small task: "+errorText(err), hint.Of(err)...)
		}
		f.Model = found.Path
	}
	_, err := f.deviceFlags.choose(u)
	return err
}

func runDemo(ctx context.Context, u *ui, o demo.Options) error {
	start := time.Now()
	r, err := demo.Run(ctx, o, func(s string) { u.say("%s", s) }, newTrainProgress(u).event)
	if err != nil {
		return err
	}
	if u.json {
		return u.printJSON(r)
	}
	return printDemo(u.results(), r, time.Since(start))
}

func printDemo(w io.Writer, r *demo.Result, took time.Duration) error {
	fmt.Fprintf(w, "\nloss, %s\n%s\n\n", count(len(r.Losses), "step"),
		asciigraph.Plot(r.Losses, asciigraph.Height(8), asciigraph.Width(64), asciigraph.LowerBound(0), asciigraph.Precision(1)))
	if err := printAnswers(w, r); err != nil {
		return err
	}
	n := len(r.Answers)
	fmt.Fprintf(w, "\nin the taught form: %d of %d before, %d of %d after; with the right words %d of %d\n", r.InForm.Before, n, r.InForm.After, n, r.Correct.After, n)
	if len(r.Talk) > 0 {
		fmt.Fprintf(w, "other questions answered as before: %d of %d\n", r.Kept, len(r.Talk))
	}
	fmt.Fprintf(w, "validation loss %.3f → %.3f; the exported file keeps %.1f %% of the gain (ranks %d to %d)\n",
		float64(r.Train.BaseValLoss), float64(r.Train.ValLoss), 100*float64(r.Export.Retention), r.Export.RankMin, r.Export.RankMax)
	fmt.Fprintf(w, "%s in all\n", clock(took.Seconds()))
	return printNext(w, r)
}

// printAnswers shows what was answered before and after, side by side.
func printAnswers(w io.Writer, r *demo.Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "held-out sentence\tbefore\tafter")
	for _, a := range r.Answers {
		fmt.Fprintf(t, "%s\t%s\t%s\n", a.Sentence, shortened(a.Before, 30), shortened(a.After, 60)+crossUnless(a.Right))
	}
	if err := t.Flush(); err != nil || len(r.Talk) == 0 {
		return err
	}
	fmt.Fprintln(t, "\nother question\tbefore\tafter")
	for _, a := range r.Talk {
		fmt.Fprintf(t, "%s\t%s\t%s\n", a.Question, shortened(a.Before, 45), shortened(a.After, 45)+crossUnless(a.Kept))
	}
	return t.Flush()
}

// crossUnless marks an answer that is not as it should be.
func crossUnless(good bool) string {
	if good {
		return ""
	}
	return "  ✗"
}

// printNext names the files, and how to do the same for something else.
func printNext(w io.Writer, r *demo.Result) error {
	base, adapter := shellWord(r.Model), shellWord(r.Path(demo.AdapterFile))
	data := make([]string, len(r.Data))
	for i, path := range r.Data {
		data[i] = shellWord(path)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nthe files:\n  %s\tthe base\n  %s\twhat was taught\n  %s\tthe run: settings, log, adapter as trained\n  %s\tthe GGUF LoRA\n",
		base, strings.Join(data, " "), shellWord(r.Path(demo.RunDir)), adapter)
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\ntry it:\n  finetune chat --model %s --adapter %s\n  llama-cli -m %s --lora %s\n"+
		"\nthe same for your own model and text:\n"+
		"  finetune train --model base.gguf --data train.jsonl --out run/\n"+
		"  finetune export --run run/ --out adapter.gguf\n", base, adapter, base, adapter)
	return err
}

// shortened returns the beginning of an answer, on one line of that many characters.
func shortened(s string, most int) string {
	runes := []rune(strings.Join(strings.Fields(s), " "))
	if len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return string(runes)
}
