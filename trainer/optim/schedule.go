package optim

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"finetune/run"
)

// Schedule is the learning rate over a run: a linear warm-up to Peak, then a
// decay towards Min. It is a value; goroutines may share it.
type Schedule struct {
	Kind   string  // cosine, linear or constant
	Peak   float64 // the highest learning rate
	Min    float64 // what cosine and linear decay to
	Total  int     // optimizer steps of the whole run
	Warmup int     // steps of warm-up, at most Total
}

// NewSchedule checks its arguments and returns the schedule. The error says
// which of them is out of range.
func NewSchedule(kind string, peak, minLR float64, total, warmup int) (Schedule, error) {
	s := Schedule{Kind: kind, Peak: peak, Min: minLR, Total: total, Warmup: warmup}
	switch {
	case !slices.Contains(run.Schedules, kind):
		return s, fmt.Errorf("optim: schedule %q: want one of %s", kind, strings.Join(run.Schedules, ", "))
	case total < 1:
		return s, fmt.Errorf("optim: schedule of %d steps: want 1 or more", total)
	case warmup < 0 || warmup > total:
		return s, fmt.Errorf("optim: warm-up of %d steps: want 0 to the %d steps of the run", warmup, total)
	}
	return s, nil
}

// LR returns the learning rate of an optimizer step, counted from 1. Step
// Warmup is the first at Peak; the decay would reach Min at step Total+1, so
// that no step of the run is spent at a rate of zero.
func (s Schedule) LR(step int) float64 {
	if step <= s.Warmup {
		return s.Peak * float64(step) / float64(s.Warmup)
	}
	left := 1.0 // of the decay, from 1 down to 0
	switch s.Kind {
	case "cosine":
		left = 0.5 * (1 + math.Cos(math.Pi*s.progress(step)))
	case "linear":
		left = 1 - s.progress(step)
	}
	return s.Min + (s.Peak-s.Min)*left
}

// progress returns how far the decay has come, from 0 at the first step after the
// warm-up to 1 behind the last step.
func (s Schedule) progress(step int) float64 {
	if step > s.Total {
		return 1
	}
	return float64(step-1-s.Warmup) / float64(s.Total-s.Warmup)
}
