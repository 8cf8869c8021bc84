package optim

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"finetune/run"
)

// Schedule is the learning rate over a run: a linear warm-up to peak, then a
// decay towards min. It is a value; goroutines may share it.
type Schedule struct {
	kind   string  // cosine, linear or constant
	peak   float64 // the highest learning rate
	min    float64 // what cosine and linear decay to
	total  int     // optimizer steps of the whole run
	warmup int     // steps of warm-up, at most total
}

// NewSchedule checks its arguments and returns the schedule. The error says
// which of them is out of range.
func NewSchedule(kind string, peak, minLR float64, total, warmup int) (Schedule, error) {
	s := Schedule{kind: kind, peak: peak, min: minLR, total: total, warmup: warmup}
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
// warmup is the first at peak; the decay would reach min at step total+1, so
// that no step of the run is spent at a rate of zero.
func (s Schedule) LR(step int) float64 {
	if step <= s.warmup {
		return s.peak * float64(step) / float64(s.warmup)
	}
	left := 1.0 // of the decay, from 1 down to 0
	switch s.kind {
	case "cosine":
		left = 0.5 * (1 + math.Cos(math.Pi*s.progress(step)))
	case "linear":
		left = 1 - s.progress(step)
	}
	return s.min + (s.peak-s.min)*left
}

// progress returns how far the decay has come, from 0 at the first step after the
// warm-up to 1 behind the last step.
func (s Schedule) progress(step int) float64 {
	if step > s.total {
		return 1
	}
	return float64(step-1-s.warmup) / float64(s.total-s.warmup)
}
