package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
)

// settings are what a run is; none is made twice.
type settings struct {
	Task   string  `json:"task"`
	Tool   string  `json:"tool"`   // finetune or peft
	Method string  `json:"method"` // of train --method
	Start  string  `json:"start,omitempty"`
	Rank   int     `json:"rank"`
	LR     float64 `json:"lr"`
	HeadLR float64 `json:"head_lr"` // the classifier's rate as a share of that
	Epochs int     `json:"epochs"`
	Seed   int     `json:"seed"`
}

func (s settings) String() string {
	text := strings.Join(strings.Fields(strings.Join([]string{s.Task, s.Tool, s.Method, s.Start}, " ")), " ")
	text += fmt.Sprintf(", rank %d, lr %g, the classifier's %.2g of it, %d passes", s.Rank, s.LR, s.HeadLR, s.Epochs)
	if s.Seed > 0 { // a row of the table is of all seeds
		text += fmt.Sprintf(", seed %d", s.Seed)
	}
	return text
}

// A task is a set of labelled texts. So many windows of so many tokens hold so many of its sentences on average.
type task struct {
	ctx, windows, sentences int
	read                    func(path string) ([]labelled, error)
	train, dev              string
}

type labelled struct {
	Text  string `json:"text"`
	Label string `json:"label"`
}

var tasks = map[string]task{
	"cola": {ctx: 128, windows: 4, sentences: 45, read: readCoLA, train: "tasks/cola-train.tsv", dev: "tasks/cola-dev.tsv"},
}

// plan returns the runs in the order in which they are wanted: LoRA by both tools, and Dual LoRA at two rates, the classifier learning
// at LoRA's.
func plan() (all []settings) {
	lora := settings{Task: "cola", Method: "lora", Rank: 8, LR: 1e-3, HeadLR: 1, Epochs: 3}
	thin := settings{Task: "cola", Tool: "finetune", Method: "dual-lora", Start: "thin", Rank: 8, LR: 6e-3, HeadLR: 1. / 6, Epochs: 3}
	slower := thin
	slower.LR, slower.HeadLR = 3e-3, 1./3
	ours, theirs := lora, lora
	ours.Tool, theirs.Tool = "finetune", "peft"
	for _, group := range [][]settings{{ours, thin, theirs}, {slower}} {
		for seed := 1; seed <= 3; seed++ {
			for _, s := range group {
				s.Seed = seed
				all = append(all, s)
			}
		}
	}
	return all
}

func next(made []run, python bool) (settings, bool) {
	for _, s := range plan() {
		if (python || s.Tool != "peft") && !slices.ContainsFunc(made, func(r run) bool { return r.settings == s }) {
			return s, true
		}
	}
	return settings{}, false
}

// files writes a task's texts in the form that both sides read.
func (b *bench) files(name string) (train, dev string, err error) {
	t := tasks[name]
	write := func(from, to string) (string, error) {
		texts, err := t.read(filepath.Join(b.data, from))
		if err != nil {
			return "", err
		}
		var out strings.Builder
		for _, text := range texts {
			line, err := json.Marshal(text)
			if err != nil {
				return "", err
			}
			out.Write(append(line, '\n'))
		}
		to = filepath.Join(b.work, name+"-"+to+".jsonl")
		return to, os.WriteFile(to, []byte(out.String()), 0o644)
	}
	if train, err = write(t.train, "train"); err != nil {
		return "", "", err
	}
	dev, err = write(t.dev, "dev")
	return train, dev, err
}

// readCoLA reads a table of source, acceptable or not, the author's mark and the sentence.
func readCoLA(path string) (all []labelled, err error) {
	text, err := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		columns := strings.Split(strings.TrimRight(line, "\r\n"), "\t")
		if len(columns) != 4 {
			return nil, fmt.Errorf("%s: %q has %d columns, want 4", path, line, len(columns))
		}
		all = append(all, labelled{Text: columns[3], Label: columns[1]})
	}
	return all, err
}

// printTable writes the mean of the seeds of what was made, and how far they spread.
func printTable(w io.Writer, made []run) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "run\tseeds\taccuracy\tMatthews\tloss\tseconds\tpeak MB")
	var shown []settings
	for _, r := range made {
		s := r.settings
		s.Seed = 0
		if slices.Contains(shown, s) {
			continue
		}
		shown = append(shown, s)
		var of []run
		for _, other := range made {
			if o := other.settings; withSeed(s, o.Seed) == o {
				of = append(of, other)
			}
		}
		mean := func(value func(run) float64) string {
			m, sd := spread(of, value)
			return fmt.Sprintf("%.4f ± %.4f", m, sd)
		}
		seconds, _ := spread(of, func(r run) float64 { return r.Seconds })
		peak, _ := spread(of, func(r run) float64 { return float64(r.MaxRSSMB) })
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%.0f\t%.0f\n", s, len(of), mean(func(r run) float64 { return r.Accuracy }), mean(func(r run) float64 { return r.Matthews }),
			mean(func(r run) float64 { return r.Loss }), seconds, peak)
	}
	return t.Flush()
}

func withSeed(s settings, seed int) settings {
	s.Seed = seed
	return s
}

// spread returns the mean and the standard deviation of a sample.
func spread(runs []run, value func(run) float64) (mean, sd float64) {
	for _, r := range runs {
		mean += value(r) / float64(len(runs))
	}
	for _, r := range runs {
		sd += (value(r) - mean) * (value(r) - mean)
	}
	return mean, math.Sqrt(sd / float64(max(len(runs)-1, 1)))
}
