package trainer

import (
	"context"
	"errors"
	"slices"
	"time"

	"finetune/eval"
	"finetune/internal/machine"
	"finetune/run"
	"finetune/trainer/data"
)

// timedSteps is how many steps a rehearsal takes; the time of a step is the middle one of theirs, since the first brings pages
// of the model into memory.
const timedSteps = 3

// timedValidations is how many passes of a validation it times.
const timedValidations = 3

// Estimate is what a run would take, by a rehearsal.
type Estimate struct {
	Plan        *Plan     `json:"plan"`
	Planned     int64     `json:"planned_bytes"`      // the plan's total
	PeakMemory  int64     `json:"peak_memory_bytes"`  // of the process, so far
	Steps       int       `json:"steps"`              // of the run
	Timed       []float64 `json:"timed_step_seconds"` // of each step that was taken
	StepSeconds float64   `json:"step_seconds"`       // of one of the run's
	Trained     float64   `json:"tokens_per_second"`  // trained tokens, in those steps
	Raw         float64   `json:"raw_tokens_per_second"`
	Share       float64   `json:"processor_share"`    // of the threads' time in those steps that they computed in; low where other programs run; 0 = not known
	Validations int       `json:"validations"`        // before the first step, between and at the end
	ValSeconds  float64   `json:"validation_seconds"` // of each
	Reading     float64   `json:"reading_seconds"`    // opening the base, reading the data, finding the start
	RangeTest   float64   `json:"range_test_seconds"` // with a learning rate that is to be found
	Seconds     float64   `json:"seconds"`            // of the whole run, checkpoints aside
}

// Rehearse does what Train does up to the third step of a new run, keeps the time, and leaves nothing behind: no run directory,
// no log, no checkpoint, and no tokens in the cache. c must have passed Validate. report gets the events up to the start of
// training, and may be nil. The errors are those of Train, among them that the run directory holds a run.
func Rehearse(ctx context.Context, c run.Config, report func(Event)) (*Estimate, error) {
	begin := time.Now()
	c = c.Dated(begin)
	if err := run.CheckNew(c.Out); err != nil {
		return nil, err
	}
	s, err := newRehearsal(ctx, c, readingOf(report))
	if err != nil {
		return nil, err
	}
	defer s.close()
	l, err := newLoop(s, nil, report)
	if err != nil {
		return nil, err
	}
	if err := l.makeReady(ctx); err != nil {
		return nil, s.explained(err)
	}
	l.trainable.start()
	l.engine.Upload()
	e := &Estimate{Plan: &l.plan, Planned: l.plan.Total(), Steps: l.total, Reading: time.Since(begin).Seconds()}
	return e, s.explained(l.time(ctx, e))
}

// time takes the steps and the passes of a validation.
func (l *loop) time(ctx context.Context, e *Estimate) error {
	if l.config.LR == run.AutoRate {
		if err := l.rateOf(l.config.UsualRate(l.total, l.model.NEmbd())); err != nil {
			return err
		}
		e.RangeTest = rangeWork(l.total)
	}
	var trained, raw, all float64
	busy := machine.ProcessorTime()
	for range min(timedSteps, l.total) {
		begin := time.Now()
		r, err := l.stepper.Step(ctx, l.sampler.Batch(l.config.Batch*l.config.GradAccum))
		if diverged := (*DivergedError)(nil); errors.As(err, &diverged) && len(e.Timed) == 0 && !eval.Loss(diverged.Loss).Measured() {
			return l.baseError("loss", diverged.Loss)
		}
		if err != nil {
			return err
		}
		took := time.Since(begin).Seconds()
		e.Timed = append(e.Timed, took)
		trained, raw, all = trained+float64(r.Trained), raw+float64(r.Windows*l.config.Ctx), all+took
	}
	e.StepSeconds = middle(e.Timed)
	e.Trained, e.Raw = trained/all, raw/all
	if busy >= 0 {
		e.Share = (machine.ProcessorTime() - busy).Seconds() / (all * float64(l.config.ThreadCount()))
	}
	e.RangeTest *= e.StepSeconds
	if err := l.timeValidation(ctx, e); err != nil {
		return err
	}
	e.PeakMemory = machine.PeakMemory()
	e.Seconds = e.Reading + e.RangeTest + e.StepSeconds*float64(e.Steps) + e.ValSeconds*float64(e.Validations)
	return nil
}

// timeValidation times some passes of one.
func (l *loop) timeValidation(ctx context.Context, e *Estimate) error {
	if l.val == nil {
		return nil
	}
	all, seqs := l.validated(), l.engine.Shape().Seqs
	some := min(all, timedValidations*seqs)
	begin := time.Now()
	_, err := eval.ByEngine(ctx, l.engine, l.valTuner, some, func(i int) data.Window { return l.val.At(i) })
	if err != nil {
		return err
	}
	passes := func(windows int) float64 { return float64((windows + seqs - 1) / seqs) }
	e.ValSeconds = time.Since(begin).Seconds() * passes(all) / passes(some)
	e.Validations = 2
	if l.config.InitFrom != "" {
		e.Validations++
	}
	if every := l.config.EvalEvery; every > 0 {
		e.Validations += (l.total - 1) / every
	}
	return nil
}

// middle returns the median of a few numbers.
func middle(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
