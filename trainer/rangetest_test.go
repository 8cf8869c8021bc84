package trainer

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/internal/hint"
	"finetune/internal/near"
	"finetune/internal/testrun"
	"finetune/run"
)

// openRate is a run that leaves its rate open, just long enough for a range test.
func openRate(t *testing.T, method string, start adapter.Start) run.Config {
	c := testrun.By(method, testrun.Tiny(t))
	c.Start, c.LR, c.Steps, c.Batch = string(start), run.AutoRate, shortestTested, 4
	return c.Completed(none)
}

// found is the range test that log.jsonl tells of, once.
func found(t *testing.T, dir string) (lr float64, curve []any) {
	t.Helper()
	n := 0
	for _, e := range testrun.Logged(t, dir) {
		if e["event"] == "range" {
			n++
			lr = e["lr"].(float64)
			curve, _ = e["curve"].([]any)
		}
	}
	if n != 1 {
		t.Fatalf("%d range tests in the log, want 1", n)
	}
	return lr, curve
}

// What a range test leaves is a rate: the run is the same, to the last bit, as one that was given it as a number.
func TestAutoRateIsThatRunByNumber(t *testing.T) {
	for _, tt := range []struct {
		method string
		start  adapter.Start
	}{{"lora", ""}, {"rslora", ""}, {"dora", ""}, {"dual-lora", adapter.StartEven}, {"dual-lora", adapter.StartThin}, {"dual-lora", adapter.StartGradient}} {
		what := tt.method + " " + string(tt.start)
		c := openRate(t, tt.method, tt.start)
		s, losses := mustTrain(t, c, false)
		lr, curve := found(t, c.Out)
		t.Logf("%s: %g after %d steps, loss %.4f → %.4f", what, lr, len(curve), s.BaseValLoss, s.ValLoss)
		saved, err := run.LoadSaved(c.Out)
		if err != nil || float64(saved.LR) != lr || !(lr > 0) || len(curve) < 2 || len(curve) > leastRange {
			t.Errorf("%s: the log says %v after %d steps, config.yaml %v, %v", what, lr, len(curve), saved.LR, err)
		}
		given := testrun.Elsewhere(t, c)
		given.LR = run.Rate(lr)
		if _, again := mustTrain(t, given, false); !slices.Equal(losses, again) {
			t.Errorf("%s: losses %v, with the rate given %v", what, losses, again)
		}
		sameResult(t, what, given.Out, c.Out, c.Steps)
		if !bytes.Equal(testrun.Read(t, given.Out, run.ImatrixFile), testrun.Read(t, c.Out, run.ImatrixFile)) {
			t.Errorf("%s: the range test shows in the activation statistics", what)
		}
	}
}

// A run resumes at the rate that it has found, given as auto or left out; one that was interrupted in the test looks again.
func TestAutoRateIsNotLookedForTwice(t *testing.T) {
	c := openRate(t, "lora", "")
	mustTrain(t, c, false)
	lr, _ := found(t, c.Out)
	r := testrun.Elsewhere(t, c)
	interrupt(t, r, false, 3)
	mustTrain(t, r, true)
	sameResult(t, "interrupted after the test", c.Out, r.Out, c.Steps)
	if got, _ := found(t, r.Out); got != lr {
		t.Errorf("resumed at %v, want %v", got, lr)
	}

	r = testrun.Elsewhere(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Train(ctx, r, false, func(e Event) {
		if e.Kind == "eval" {
			cancel() // the test comes next
		}
	})
	if saved, _ := run.LoadSaved(r.Out); !errors.Is(err, ErrInterrupted) || saved.LR != run.AutoRate {
		t.Fatalf("interrupted in the test: %v, a rate of %v", err, saved.LR)
	}
	mustTrain(t, r, true)
	sameResult(t, "interrupted in the test", c.Out, r.Out, c.Steps)
	found(t, r.Out)
}

// A range test starts where the run does: with the factors of the adapter that it goes on from.
func TestAutoRateGoesOnFromAnAdapter(t *testing.T) {
	first := openRate(t, "lora", "")
	first.LR, first.Steps = 1e-2, 10
	mustTrain(t, first, false)
	c := testrun.Elsewhere(t, openRate(t, "lora", ""))
	c.Model, c.InitFrom = first.Model, first.Out
	_, losses := mustTrain(t, c, false)
	lr, _ := found(t, c.Out)
	c.LR, c.Out = run.Rate(lr), testrun.Elsewhere(t, c).Out
	if _, again := mustTrain(t, c, false); !slices.Equal(losses, again) {
		t.Errorf("losses %v, with the rate given %v", losses, again)
	}
}

func TestShortRunsHaveTheUsualRate(t *testing.T) {
	c := openRate(t, "lora", "")
	c.Steps = 8
	mustTrain(t, c, false)
	if lr, curve := found(t, c.Out); curve != nil || !near.Within(lr, c.UsualRate(8, 32), 0.05) {
		t.Errorf("a run of 8 steps: rate %v, want about %v, curve %v", lr, c.UsualRate(8, 32), curve)
	}
}

// Where the smallest step takes ΔW out of all bounds no rate helps.
func TestRangeTestThatFindsNothing(t *testing.T) {
	c := openRate(t, "dual-lora", adapter.StartEven)
	c.Alpha = 1e30
	for i := range 2 {
		_, err := Train(context.Background(), c, i > 0, nil)
		if err == nil || !strings.Contains(err.Error(), "range test: no learning rate from ") || strings.Contains(err.Error(), "\n") || len(hint.Of(err)) == 0 {
			t.Fatalf("Train = %v, want one line about the range test, with a hint", err)
		}
	}
}

// curveOf is a ramp that has seen a loss as a function of the rate.
func curveOf(steps int, change func(lr float64) float64) *ramp {
	r := newRamp(1e-3, steps)
	for r.goesOn() {
		r.add(change(r.next()))
	}
	return r
}

// rampTolerance is a step of the shortest ramp.
const rampTolerance = 0.22

func TestLowestOfACurve(t *testing.T) {
	for _, steps := range []int{leastRange, mostRange} {
		for _, at := range []float64{5e-4, 2e-3, 6e-3} {
			fall := func(lr float64) float64 { return math.Min(lr, at) - 2*math.Max(0, lr-at) }
			r := curveOf(steps, func(lr float64) float64 { return -100 * fall(lr) })
			if got, err := r.lowest(); err != nil || !near.Within(got, at, rampTolerance) {
				t.Errorf("%d steps, a loss that falls up to %v: %v, %v", steps, at, got, err)
			}
			if r.lost != (len(r.curve) < steps) {
				t.Errorf("%d steps, a loss that falls up to %v: ends after %d, lost again %v", steps, at, len(r.curve), r.lost)
			}
		}
		last := 1e-3 * rangeAbove
		if got, err := curveOf(steps, func(lr float64) float64 { return -100 * lr }).lowest(); err != nil || !near.Within(got, last, rampTolerance) {
			t.Errorf("%d steps, a loss that falls all the way: %v, %v, want about the last rate, %v", steps, got, err, last)
		}
		if got, err := curveOf(steps, func(lr float64) float64 { return lr }).lowest(); err == nil {
			t.Errorf("%d steps, a loss that rises: %v, want an error", steps, got)
		}
	}
}

func TestPlanCountsTheCopyOfTheFactors(t *testing.T) {
	c := openRate(t, "lora", "")
	auto := opened(t, c)
	c.LR = 1e-3
	given := opened(t, c)
	_, parameters := given.trainable.size()
	if more := auto.plan.Adapter - given.plan.Adapter; more != 4*int64(parameters) {
		t.Errorf("a run that looks for its rate is planned with %d bytes more, want 4 for each of %d parameters", more, parameters)
	}
}
