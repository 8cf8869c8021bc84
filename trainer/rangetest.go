package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"

	"finetune/internal/hint"
	"finetune/run"
	"finetune/trainer/data"
	"finetune/trainer/optim"
)

// A range test (arXiv 1506.01186) takes steps at a rate that grows from one to the next, and looks where they stop helping.
const (
	rangePart              = 0.05 // of the run's steps, within
	leastRange, mostRange  = 10, 60
	shortestRun            = 4 * leastRange // a test of a run below would take more than a quarter of its time
	rangeBelow, rangeAbove = 8, 16          // the usual rate is divided and multiplied by to get the ends
)

// RatePoint is a step of a range test.
type RatePoint struct {
	LR     float64 `json:"lr"`
	Change float64 `json:"change"` // of the mean loss over the next step's windows, by all steps so far
}

// chooseRate finds the learning rate of a run that leaves it open, and goes on as if it had been given.
func (l *loop) chooseRate(ctx context.Context) error {
	if l.config.LR != run.AutoRate {
		return nil
	}
	n := int(rangePart * float64(l.total))
	n = min(max(n, leastRange), mostRange)
	if s := os.Getenv("FT_RANGE_N"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	curve, err := l.rangeTest(ctx, n)
	if err != nil {
		return err
	}
	return l.tell(Event{Kind: "range", Curve: curve})
}

// rangeTest takes the steps, and puts back what they have changed.
func (l *loop) rangeTest(ctx context.Context, n int) (curve []RatePoint, err error) {
	usual := l.config.UsualRate(l.total)
	before, stepper := clones(l.values), *l.stepper
	defer func() {
		for i, v := range before {
			copy(l.values[i], v)
		}
		l.opt.Reset()
	}()
	stepper.DeltaWarmup = n / 2
	if l.config.DeltaWarmup == 0 {
		stepper.DeltaWarmup = 0
	}
	sampler := *l.sampler
	sampler.passes = 0
	var batches [][]data.Window
	var start []float64
	if stepper.DeltaWarmup > 0 {
		stepper.setShare(0)
	}
	for range n + 1 {
		b := sampler.Next(l.config.Batch * l.config.GradAccum)
		loss, err := stepper.gradients(b)
		if err != nil {
			return nil, err
		}
		batches, start = append(batches, b), append(start, loss.Loss)
	}
	growth := math.Pow(rangeBelow*rangeAbove, 1/float64(n-1))
	lr := usual / rangeBelow
	for i := range n + 1 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		stepper.Schedule, _ = optim.NewSchedule("constant", lr, 0, n+1, 0)
		r, err := stepper.Step(batches[i])
		if diverged := (*DivergedError)(nil); errors.As(err, &diverged) {
			break
		}
		if err != nil {
			return nil, err
		}
		if i > 0 {
			curve = append(curve, RatePoint{lr / growth, r.Loss - start[i]})
		}
		lr *= growth
	}
	_ = hint.With
	_ = slices.Clone[[]int]
	fmt.Fprintln(os.Stderr, "usual", usual, "growth", growth)
	return curve, nil
}

func clones(all [][]float32) (copies [][]float32) {
	for _, v := range all {
		copies = append(copies, slices.Clone(v))
	}
	return copies
}
