package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"finetune/run"
	"finetune/trainer"
)

// dryRun tells what a run would take, and leaves nothing behind.
func dryRun(ctx context.Context, u *ui, c run.Config) error {
	p := newTrainProgress(u)
	e, err := trainer.Rehearse(ctx, c, func(e trainer.Event) { p.event(e) })
	if err != nil {
		return err
	}
	if u.json {
		return u.printJSON(e)
	}
	return printEstimate(u.results(), c, e, time.Now())
}

// fullShare is the part of the time that threads compute in on a machine that does nothing else; they wait for one another too.
const fullShare = 0.75

func printEstimate(w io.Writer, c run.Config, e *trainer.Estimate, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	var timed []string
	for _, s := range e.Timed {
		timed = append(timed, short(s))
	}
	row("reading", "%s", short(e.Reading))
	if e.RangeTest > 0 {
		row("range test", "%s, for --lr auto", short(e.RangeTest))
	}
	row("steps", "%s of %s, %s (timed: %s)", thousands(int64(e.Steps)), short(e.StepSeconds), short(e.StepSeconds*float64(e.Steps)), strings.Join(timed, ", "))
	if e.Validations > 0 {
		row("validations", "%s of %s, %s", thousands(int64(e.Validations)), short(e.ValSeconds), short(e.ValSeconds*float64(e.Validations)))
	}
	row("in all", "%s, until %s if begun now; checkpoints, samples and what else runs here come on top", short(e.Seconds), clockTime(now, e.Seconds))
	row("speed", "%s tokens/s trained, %s raw", thousands(int64(e.Trained)), thousands(int64(e.Raw)))
	if e.Share > 0 && e.Share < fullShare {
		row("", "other programs run here: the threads had %.0f %% of the time, alone it would be some %.1f times as fast", 100*e.Share, 1/e.Share)
	}
	row("memory", "%s at most by the plan, %s so far", mebibytes(e.Planned), mebibytes(e.PeakMemory))
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nnothing was written; the same command without --dry-run begins the run in %s\n", shellWord(c.Out))
	return err
}

// short returns a duration in seconds, with a digit more where it is short.
func short(seconds float64) string {
	if seconds < 10 {
		return fmt.Sprintf("%.2g s", seconds)
	}
	return clock(seconds)
}

// clockTime returns when something ends, with the day where that is not today.
func clockTime(now time.Time, seconds float64) string {
	end := now.Add(time.Duration(seconds * float64(time.Second)))
	if end.YearDay() != now.YearDay() || end.Year() != now.Year() {
		return end.Format("15:04 on 2 January")
	}
	return end.Format("15:04")
}
