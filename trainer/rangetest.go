package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"finetune/internal/hint"
	"finetune/run"
	"finetune/trainer/optim"
)

// A range test (Smith, arXiv 1506.01186) takes steps at a rate that grows from one to the next, and looks where the loss is
// lowest. That loss is the one of a probe, windows that the test does not train on, always the same ones: so the curve is
// smooth down to thousandths of a nat, where the losses of the steps jump by tenths.
const (
	rangePart             = 0.05 // of the run's steps are those of the test, within
	leastRange, mostRange = 20, 60
	shortestTested        = 4 * leastRange // steps of a run; a shorter one has the usual rate
	probeSteps            = 2              // of whose windows the probe is as many
	// The test goes from usual/rangeBelow to usual·rangeAbove, usual being Config.UsualRate.
	rangeBelow, rangeAbove = 4, 10
)

// The rule, found on six tasks over two small bases (docs/learning.md, with what it misses). Around its lowest point the curve
// is flat, and up to it a higher rate is only less time to learn in: so the rate counts that is the first to reach
// nearlyAll of the largest fall. A run's best rate lies at rateAtLowest of that times the root of the test's effective
// steps by the run's: the longer a run, the smaller its best rate.
const (
	nearlyAll    = 0.97
	rateAtLowest = 2.5
	leastFall    = 1e-3 // of the loss in nats; what is less is no fall
	tooHigh      = 1.0  // of the largest fall: the test ends where the loss is so far above its start
)

// RatePoint is a step of a range test.
type RatePoint struct {
	LR     float64 `json:"lr"`
	Change float64 `json:"change"` // of the probe's mean loss by all steps so far
}

// chooseRate finds the learning rate of a run that leaves it open, and goes on as if that had been given.
func (l *loop) chooseRate(ctx context.Context) error {
	if l.config.LR != run.AutoRate {
		return nil
	}
	begin := time.Now()
	e := Event{Kind: "range", LR: l.config.UsualRate(l.total, l.model.NEmbd()), TotalSteps: l.total}
	if steps := testSteps(l.total); steps > 0 {
		ramp := newRamp(e.LR, steps)
		err := l.climb(ctx, ramp)
		if err != nil {
			return err
		}
		lowest, err := ramp.lowest()
		if err != nil {
			return err
		}
		e.LR, e.Curve = lowest*rateAtLowest*math.Sqrt(ramp.effectiveSteps()/float64(l.total)), ramp.curve
	}
	l.totals.Seconds += time.Since(begin).Seconds()
	e.LR = twoDigits(e.LR)
	if err := l.setRate(e.LR); err != nil {
		return err
	}
	return l.tell(e)
}

// setRate makes the run one of a given rate, in its directory too: a resumed one does not look for it again.
func (l *loop) setRate(lr float64) error {
	if err := l.rateOf(lr); err != nil {
		return err
	}
	return l.config.Save(l.dir.Path(run.ConfigFile))
}

// rateOf makes the loop one of a given rate.
func (l *loop) rateOf(lr float64) (err error) {
	l.config.LR = run.Rate(lr)
	l.learned.Settings = l.config.Hash()
	if l.schedule, err = newSchedule(l.config, l.total); err != nil {
		return err
	}
	l.stepper.Schedule = l.schedule
	return nil
}

// testSteps is how many steps the range test of a run takes, 0 for one too short to have one.
func testSteps(total int) int {
	if total < shortestTested {
		return 0
	}
	return min(max(int(rangePart*float64(total)), leastRange), mostRange)
}

// rangeWork returns the time of a range test, in steps of the run: each of its own has the probe behind it.
func rangeWork(total int) float64 {
	if n := testSteps(total); n > 0 {
		return float64(n*(1+probeSteps) + probeSteps)
	}
	return 0
}

// twoDigits rounds to two digits, which can be typed.
func twoDigits(v float64) float64 {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'e', 1, 64), 64) // its own text
	return rounded
}

// climb takes the steps of a range test, from where the run starts, and puts back bit for bit what they have changed.
func (l *loop) climb(ctx context.Context, r *ramp) error {
	before, stepper, sampler := clones(l.values), *l.stepper, *l.sampler
	defer l.putBack(before, &stepper)
	sampler.passes = 0
	perStep := l.config.Batch * l.config.GradAccum
	at := sampler
	probe := func() Batch { // the same one each time
		again := at
		return again.Batch(probeSteps * perStep)
	}
	sampler, _, _ = at.ahead(probeSteps * perStep)
	if stepper.DeltaWarmup > 0 { // ΔW is all there before the lowest point
		stepper.DeltaWarmup = len(r.rates) / 3
		stepper.setShare(0)
	}
	start, err := stepper.gradients(ctx, probe())
	tell := l.measuring("range test")
	for err == nil && r.goesOn() {
		tell(len(r.curve), len(r.rates))
		var loss float64
		if loss, err = l.try(ctx, &stepper, r.next(), sampler.Batch(perStep), probe()); err == nil {
			r.add(loss - start.Loss)
		}
	}
	if diverged := (*DivergedError)(nil); errors.As(err, &diverged) {
		return nil // the curve ends
	}
	return err
}

// try takes a step at a rate and returns the loss of the probe after it.
func (l *loop) try(ctx context.Context, s *Stepper, lr float64, batch, probe Batch) (_ float64, err error) {
	if s.Schedule, err = optim.NewSchedule("constant", lr, 0, mostRange, 0); err != nil {
		return 0, err
	}
	if _, err := s.Step(ctx, batch); err != nil {
		return 0, err
	}
	r, err := s.gradients(ctx, probe)
	if err == nil && !healthy(r.Loss, 1) {
		err = &DivergedError{r}
	}
	return r.Loss, err
}

// putBack makes the loop what it was before the stepper's first step.
func (l *loop) putBack(values [][]float32, s *Stepper) {
	for i, v := range values {
		copy(l.values[i], v)
	}
	s.setShare(l.stepper.share)
	l.engine.Upload()
	l.opt.Reset()
	for _, sums := range l.statistics {
		clear(sums)
	}
	l.engine.AddTokens(-l.engine.Tokens())
}

func clones(all [][]float32) (copies [][]float32) {
	for _, v := range all {
		copies = append(copies, slices.Clone(v))
	}
	return copies
}

// ramp is the rates of a range test and what came of them so far.
type ramp struct {
	rates  []float64
	growth float64 // from one to the next
	curve  []RatePoint
	fall   float64 // the largest, above 0
	lost   bool    // and as much again
}

func newRamp(usual float64, steps int) *ramp {
	r := &ramp{growth: math.Pow(rangeBelow*rangeAbove, 1/float64(steps-1))}
	for i := range steps {
		r.rates = append(r.rates, usual/rangeBelow*math.Pow(r.growth, float64(i)))
	}
	return r
}

func (r *ramp) next() float64 { return r.rates[len(r.curve)] }

func (r *ramp) goesOn() bool { return !r.lost && len(r.curve) < len(r.rates) }

// effectiveSteps returns how many steps at the last rate go as far as all up to it did.
func (r *ramp) effectiveSteps() float64 { return r.growth / (r.growth - 1) }

// add notes the change of the loss after the next rate.
func (r *ramp) add(change float64) {
	r.curve = append(r.curve, RatePoint{r.next(), change})
	r.fall = max(r.fall, -change)
	r.lost = r.fall > leastFall && change > tooHigh*r.fall
}

// lowest returns the first rate that comes near to the lowest point of the curve.
func (r *ramp) lowest() (float64, error) {
	for _, p := range r.curve {
		if r.fall > leastFall && -p.Change >= nearlyAll*r.fall {
			return p.LR, nil
		}
	}
	return 0, hint.With(fmt.Errorf("trainer: range test: no learning rate from %.2g to %.2g lowers the loss", r.rates[0], r.rates[len(r.rates)-1]),
		"--lr with a number trains at that rate")
}
