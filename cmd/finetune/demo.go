package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"finetune/demo"

	"github.com/guptarohit/asciigraph"
	"github.com/spf13/cobra"
)

func demoCommand(u *ui) *cobra.Command {
	o := demo.Options{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "run the whole workflow on a small model and task that come with the program",
		Long: "Demo trains a Dual LoRA over an embedded model of some millions of parameters, which\n" +
			"learns to answer in one JSON form, exports it, loads the file in llama.cpp and shows\n" +
			"answers before and after. It takes about a minute and needs no network.",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			startEngine(u, o.Threads)
			return runDemo(cmd.Context(), u, o)
		},
	}
	cmd.Flags().StringVar(&o.Dir, "out", "finetune-demo", "folder for its files; if it exists, a number is appended to the name")
	cmd.Flags().IntVar(&o.Threads, "threads", 0, "threads; 0 is one per physical core")
	return cmd
}

func runDemo(ctx context.Context, u *ui, o demo.Options) error {
	start := time.Now()
	p := newTrainProgress(u)
	r, err := demo.Run(ctx, o, func(s string) { u.say("%s", s) }, p.event)
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
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "held-out sentence\tbefore\tafter")
	for _, a := range r.Answers {
		fmt.Fprintf(t, "%s\t%s\t%s\n", a.Sentence, shortened(a.Before, 30), shortened(a.After, 60))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	n := len(r.Answers)
	fmt.Fprintf(w, "\nin the taught form: %d of %d before, %d of %d after; with the right words %d of %d\n",
		r.InForm.Before, n, r.InForm.After, n, r.Correct.After, n)
	fmt.Fprintf(w, "validation loss %.3f → %.3f; the exported file keeps %.1f %% of the gain (ranks %d to %d)\n",
		float64(r.Train.BaseValLoss), float64(r.Train.ValLoss), 100*float64(r.Export.Retention), r.Export.RankMin, r.Export.RankMax)
	fmt.Fprintf(w, "%s in all\n\n", clock(took.Seconds()))
	base, adapter := shellWord(r.Path(demo.BaseFile)), shellWord(r.Path(demo.AdapterFile))
	fmt.Fprintf(w, "the files:\n  %s\tthe base\n  %s\twhat was taught\n  %s\tthe run: settings, log, adapter as trained\n  %s\tthe GGUF LoRA: llama-cli -m %s --lora %s\n",
		base, shellWord(r.Path(demo.TaskFile)), shellWord(r.Path(demo.RunDir)), adapter, base, adapter)
	_, err := fmt.Fprintf(w, "\nthe same for your own model and text:\n"+
		"  finetune train --model base.gguf --data train.jsonl --out run/\n"+
		"  finetune export --run run/ --out adapter.gguf\n"+
		"  finetune chat --model base.gguf --adapter adapter.gguf\n")
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
