package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
)

func tableCommand(args []string) error {
	flags := flag.NewFlagSet("table", flag.ContinueOnError)
	path := flags.String("results", "scripts/study/results.jsonl", "file of results")
	if err := flags.Parse(args); err != nil {
		return err
	}
	made, err := readResults(*path)
	if err != nil {
		return err
	}
	printTuning(os.Stdout, made)
	printComparison(os.Stdout, made)
	return nil
}

// name says which contender a run is of.
func (r run) name() string {
	name := r.Method
	if r.Start != "" {
		name = r.Start
	}
	if r.MagnitudeLR != 0 {
		name += ", magnitude's rate × " + number(r.MagnitudeLR)
	}
	if r.Steps > 0 {
		name += fmt.Sprintf(", %d steps", r.Steps)
	}
	if r.Every > 1 {
		name += fmt.Sprintf(", 1 in %d", r.Every)
	}
	return name
}

// printTuning lists the runs with the tuning seed: what a rate, or ρ, does.
func printTuning(w io.Writer, made []run) {
	tuning := slices.DeleteFunc(slices.Clone(made), func(r run) bool { return r.Seed != tuningSeed })
	slices.SortStableFunc(tuning, func(a, b run) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.name(), b.name()), cmp.Compare(a.Rho, b.Rho), cmp.Compare(a.LR, b.LR))
	})
	fmt.Fprintln(w, "| task | rank | method | ρ | rate | base | loss |\n|---|---|---|---|---|---|---|")
	for _, r := range tuning {
		fmt.Fprintf(w, "| %s | %d | %s | %s | %g | %.4f | %.4f |\n", r.Task, r.Rank, r.name(), rhoText(r), r.LR, r.Base, r.Loss)
	}
	fmt.Fprintln(w)
}

func rhoText(r run) string {
	if r.Rho == 0 {
		return ""
	}
	return number(r.Rho)
}

// pairing is a contender on a task at a rank, beside LoRA with the same seeds.
type pairing struct {
	task, name string
	rank       int
	losses     []float64
	kept       []float64
	differ     []float64 // loss less LoRA's of the same seed and data order
}

// printComparison tells, of the seeds that no rate was tuned on, mean losses and paired differences to LoRA.
func printComparison(w io.Writer, made []run) {
	fmt.Fprintln(w, "| task | rank | method | n | loss | difference to LoRA, paired | kept by the export |\n|---|---|---|---|---|---|---|")
	for _, p := range pair(made) {
		difference, kept := "", ""
		if len(p.differ) > 0 {
			difference = spread(p.differ, "%+.4f")
		}
		if len(p.kept) > 0 {
			mean, _ := meanAndDeviation(p.kept)
			kept = fmt.Sprintf("%.1f %%", 100*mean)
		}
		fmt.Fprintf(w, "| %s | %d | %s | %d | %s | %s | %s |\n", p.task, p.rank, p.name, len(p.losses), spread(p.losses, "%.4f"), difference, kept)
	}
}

// pair gathers the runs, in the order of tasks, ranks and names.
func pair(made []run) []*pairing {
	var all []*pairing
	for _, r := range made {
		if r.Seed == tuningSeed {
			continue
		}
		i := slices.IndexFunc(all, func(p *pairing) bool { return p.task == r.Task && p.rank == r.Rank && p.name == r.name() })
		if i < 0 {
			i, all = len(all), append(all, &pairing{task: r.Task, rank: r.Rank, name: r.name()})
		}
		p := all[i]
		p.losses = append(p.losses, r.Loss)
		if r.Kept != 0 {
			p.kept = append(p.kept, r.Kept)
		}
		if other, ok := partner(made, r); ok && r.name() != other.name() {
			p.differ = append(p.differ, r.Loss-other.Loss)
		}
	}
	slices.SortStableFunc(all, func(a, b *pairing) int {
		return cmp.Or(cmp.Compare(a.task, b.task), cmp.Compare(a.rank, b.rank), cmp.Compare(a.name, b.name))
	})
	return all
}

// partner returns LoRA's run with the same task, rank and seed.
func partner(made []run, r run) (run, bool) {
	i := slices.IndexFunc(made, func(o run) bool {
		return o.name() == "lora" && o.Task == r.Task && o.Rank == r.Rank && o.Seed == r.Seed
	})
	if i < 0 {
		return run{}, false
	}
	return made[i], true
}

// spread writes a mean, with the standard deviation where there is more than one value.
func spread(v []float64, format string) string {
	mean, deviation := meanAndDeviation(v)
	text := fmt.Sprintf(format, mean)
	if len(v) > 1 {
		text += fmt.Sprintf(" ± %.4f", deviation)
	}
	return text
}

func meanAndDeviation(v []float64) (mean, deviation float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		deviation += (x - mean) * (x - mean)
	}
	if len(v) > 1 {
		deviation = math.Sqrt(deviation / float64(len(v)-1))
	}
	return mean, deviation
}
