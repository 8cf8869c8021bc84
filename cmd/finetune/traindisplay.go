package main

import (
	"fmt"
	"sync"
	"time"

	"finetune/internal/machine"
	"finetune/trainer"

	"github.com/mattn/go-runewidth"
)

// trainDisplay draws a run while it goes on:
//
//	loss        ▇▆▅▄▃▃▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁  3.021, learning rate 0.00981
//	validation  █▄▂▁                     3.0212, 5.2697 before
//	memory      ━━━━━━━━━━━━━━━━━━─────  41 of 53 MiB planned
//	tokens/s    24,635 trained, 24,635 raw
//	step        ━━━━━━━━━━━━━━━────────  132 of 200, 2 s left
//
// with what is known so far, and in place of the last row what is done between two steps. Goroutines may share it.
type trainDisplay struct {
	resident func() int64 // bytes that the process takes, 0 where the system does not tell

	mu               sync.Mutex
	planned, allowed int64 // bytes at most by the plan and by --max-memory; 0: not known, no limit
	steps, of        int
	loss             float64 // a running mean
	first, last      float64 // validation losses: before the first step, and the newest
	rate             float64
	trained, raw     float64       // tokens a second
	left             time.Duration // at the time of the last step
	stepped          time.Time
	doing            string // what is done between steps, and how far it has come
	done, doneOf     int64

	losses, validations curve
}

func newTrainDisplay() *trainDisplay { return &trainDisplay{resident: machine.ResidentMemory} }

// note takes in what an event tells, and the running mean of the losses.
func (d *trainDisplay) note(e trainer.Event, loss float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doing = ""
	switch e.Kind {
	case "start":
		d.planned, d.allowed = e.Plan.Total(), e.Plan.Limit
		d.steps, d.of = e.Step, e.TotalSteps
	case "measuring":
		d.doing, d.done, d.doneOf = e.What, e.Done, e.Of
	case "eval":
		if d.last = float64(e.Loss); len(d.validations.points) == 0 {
			d.first = d.last
		}
		d.validations.add(d.last)
	case "step":
		d.steps, d.of, d.loss, d.rate = e.Step, e.TotalSteps, loss, e.LR
		d.trained, d.raw = e.TokensPerSecond, e.RawPerSecond
		d.left, d.stepped = time.Duration(e.SecondsLeft*float64(time.Second)), time.Now()
		d.losses.add(loss)
	}
}

// The columns of the display: names, graphs of at most so many, and what the numbers take, unless the terminal is too narrow
// for graphs that show something.
const (
	nameColumns  = 12
	mostGraph    = 60
	valueColumns = 36
)

// row is a line of the display.
type row struct {
	name  string
	graph func(columns int) string // nil: none
	value string
}

// picture draws what is known.
func (d *trainDisplay) picture(columns int) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	graph := min(columns-nameColumns-valueColumns-2, mostGraph)
	var lines []string
	for _, r := range d.rows() {
		line := runewidth.FillRight(r.name, nameColumns)
		if r.graph != nil && graph >= leastBar {
			line += runewidth.FillRight(r.graph(graph), graph) + "  "
		}
		lines = append(lines, fit(line+r.value, columns))
	}
	return lines
}

func (d *trainDisplay) rows() (rows []row) {
	if len(d.losses.points) > 0 {
		rows = append(rows, row{"loss", d.losses.spark, fmt.Sprintf("%.3f, learning rate %.3g", d.loss, d.rate)})
	}
	switch n := len(d.validations.points); {
	case n > 1:
		rows = append(rows, row{"validation", d.validations.spark, fmt.Sprintf("%.4f, %.4f before", d.last, d.first)})
	case n == 1:
		rows = append(rows, row{"validation", d.validations.spark, fmt.Sprintf("%.4f", d.last)})
	}
	if d.planned > 0 {
		rows = append(rows, d.memory(d.resident()))
	}
	if !d.stepped.IsZero() {
		rows = append(rows, row{"tokens/s", nil, fmt.Sprintf("%s trained, %s raw", thousands(int64(d.trained)), thousands(int64(d.raw)))})
	}
	return append(rows, d.progress())
}

// memory is what the process takes, of what the plan says that it will at most.
func (d *trainDisplay) memory(taken int64) row {
	value := fmt.Sprintf("%s of %s planned", thousands(toMebibytes(taken)), mebibytes(d.planned))
	if taken == 0 {
		value = mebibytes(d.planned) + " planned"
	}
	if d.allowed > 0 {
		value += fmt.Sprintf(", %s allowed", thousands(toMebibytes(d.allowed)))
	}
	return row{"memory", func(columns int) string { return bar(taken, d.planned, columns) }, value}
}

// progress is how far the run has come, or what is done between two steps.
func (d *trainDisplay) progress() row {
	if d.doing != "" {
		value := fmt.Sprintf("%s, %s of %s", d.doing, thousands(d.done), thousands(d.doneOf))
		return row{"measuring", func(columns int) string { return bar(d.done, d.doneOf, columns) }, value}
	}
	value := fmt.Sprintf("%s of %s", thousands(int64(d.steps)), thousands(int64(d.of)))
	if !d.stepped.IsZero() {
		value += fmt.Sprintf(", %s left", clock(max(0, d.left-time.Since(d.stepped)).Seconds()))
	}
	return row{"step", func(columns int) string { return bar(int64(d.steps), int64(d.of), columns) }, value}
}
