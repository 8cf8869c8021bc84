package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"time"

	"finetune/eval"
	"finetune/internal/hint"
	"finetune/internal/machine"
	"finetune/kernels"
	"finetune/run"
	"finetune/trainer/data"
	"finetune/trainer/optim"
)

// ErrInterrupted is what Train returns when its context was cancelled: the checkpoint that it leaves is of
// the last whole step.
var ErrInterrupted = errors.New("interrupted")

// keptCheckpoints is how many checkpoints stay in a run directory: the newest, and one before it.
const keptCheckpoints = 2

// loop is a run between its steps.
type loop struct {
	*setup
	dir      *run.Dir
	learned  identity // what decides what is learned, for the checkpoints
	dataHash string   // of data.Hash, taken while the run begins: at its end a file may be gone
	params   []optim.Param
	values   [][]float32
	opt      *optim.AdamW
	schedule optim.Schedule
	stepper  *Stepper // once the memory is taken
	sampler  *Sampler

	statisticsParams []optim.Param // activation statistics of the adapted weights
	statistics       [][]float32   // their sums, in the engine's memory; until it has any, what a checkpoint held
	earlierTokens    int64         // that those of the checkpoint are over
	kept             [][]float32   // what they were before the step under way
	keptTokens       int64

	step, total int // steps taken, and of the whole run
	totals      totals
	losses      []float64 // of each step
	report      func(Event)

	now       func() time.Time
	saved     time.Time // when the last checkpoint was written, or this part of the run began
	owed      bool      // a validation that was due when an earlier part of the run ended
	savedStep int       // the step of the newest checkpoint, -1 = there is none

	samples  *sampling // nil: none are wanted
	best     best
	measured measured // by the last validation
}

// measured is a validation loss, and the step after which it was measured.
type measured struct {
	step int
	loss eval.Loss
}

// Train runs a configuration, which Validate has accepted, from the start or, with resume, from the newest checkpoint in
// its run directory. report gets every event and may be nil. The run directory holds adapter.gguf, or with run.MethodFull
// model.gguf, exactly when the run is done. Cancelling ctx ends the run after the pass through the
// graph under way, in a step or a validation, with ErrInterrupted.
func Train(ctx context.Context, c run.Config, resume bool, report func(Event)) (*Summary, error) {
	return train(ctx, c, resume, report, time.Now)
}

// train does what Train does by a clock that tells when a checkpoint is due.
func train(ctx context.Context, c run.Config, resume bool, report func(Event), now func() time.Time) (_ *Summary, err error) {
	if resume {
		c = settled(c)
	} else {
		c = c.Dated(time.Now())
	}
	dir, err := openDir(c, resume)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	_, done, err := dir.LatestCheckpoint()
	s, err := newSetup(ctx, c, err != nil || done == 0, readingOf(report))
	if err != nil && errors.Is(err, ctx.Err()) {
		return nil, interruptedReading(c, dir, done == 0)
	}
	if err != nil {
		return nil, err
	}
	defer s.close()
	l, err := newLoop(s, dir, report)
	if err != nil {
		return nil, err
	}
	l.now = now
	if err := l.restore(resume); err != nil {
		return nil, err
	}
	if err := s.config.Save(dir.Path(run.ConfigFile)); err != nil {
		return nil, err
	}
	if err := dir.KeepTemplate(s.config.Template); err != nil {
		return nil, err
	}
	if err := dir.KeepPreview(l.preview()); err != nil {
		return nil, err
	}
	if s.config.TensorBoard {
		if err := dir.Chart(); err != nil {
			return nil, err
		}
	}
	summary, err := l.proceed(ctx)
	unlogged := (*logError)(nil)
	switch {
	case err != nil && errors.Is(err, ctx.Err()):
		err = l.interrupt()
	case errors.As(err, &unlogged):
		err = l.rescue(err)
	case s.engine.Failed() != nil:
		err = l.rescue(err)
	}
	return summary, s.explained(err)
}

// interruptedReading leaves a run that is new so that it can be resumed.
func interruptedReading(c run.Config, dir *run.Dir, isNew bool) error {
	if isNew {
		if err := c.Save(dir.Path(run.ConfigFile)); err != nil {
			return err
		}
	}
	return hint.With(fmt.Errorf("trainer: %w while the data was read", ErrInterrupted), "--resume begins it again")
}

// makeReady tells the plan, finds a start by gradients, and takes the memory.
func (l *loop) makeReady(ctx context.Context) error {
	if err := l.tellPlan(); err != nil {
		return err
	}
	if err := l.startByGradient(ctx); err != nil {
		return err
	}
	return l.takeMemory()
}

// proceed goes from where the loop stands to the end.
func (l *loop) proceed(ctx context.Context) (*Summary, error) {
	if err := l.makeReady(ctx); err != nil {
		return nil, err
	}
	if err := l.begin(ctx); err != nil {
		return nil, err
	}
	if err := l.chooseRate(ctx); err != nil {
		return nil, err
	}
	if l.owed {
		l.stepper.setShare(deltaShare(l.step, l.stepper.DeltaWarmup))
		if _, err := l.measure(ctx, Event{Kind: "eval"}); err != nil {
			return nil, err
		}
	}
	l.saved = l.now()
	for l.step < l.total && !l.exhausted() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := l.next(ctx); err != nil {
			return nil, err
		}
	}
	return l.finish(ctx)
}

func newLoop(s *setup, dir *run.Dir, report func(Event)) (*loop, error) {
	l := &loop{setup: s, dir: dir, report: report, total: s.config.TotalSteps(s.train.Len()), now: time.Now, savedStep: -1}
	if s.config.LR == run.Usual {
		s.config.LR = run.Rate(twoDigits(s.config.UsualRate(l.total, s.model.NEmbd())))
		if err := s.config.Validate(); err != nil { // --min-lr may lie above it
			return nil, err
		}
	}
	if err := l.checkJudged(); err != nil {
		return nil, err
	}
	var err error
	if l.samples, err = l.newSampling(s.config.Samples); err != nil {
		return nil, err
	}
	l.learned = identify(s.config, s.id, s.train, s.val)
	l.totals.BaseValLoss = math.NaN()
	l.params, l.values = s.trainable.params()
	l.statisticsParams = s.trainable.statistics()
	l.sampler = &Sampler{Windows: s.train, Seed: s.config.Seed}
	if s.config.Steps == 0 {
		l.sampler.passes = s.config.Epochs
	}
	if l.dataHash, err = data.Hash(s.config.Data); err != nil {
		return nil, err
	}
	l.schedule, err = newSchedule(s.config, l.total)
	return l, err
}

// newSchedule returns the learning rate over a run of total steps.
func newSchedule(c run.Config, total int) (optim.Schedule, error) {
	return optim.NewSchedule(c.Schedule, float64(c.LR), c.MinLR, total, c.WarmupSteps(total))
}

// tellPlan tells what will be done, and the memory that it will take.
func (l *loop) tellPlan() error {
	tensors, parameters := l.trainable.size()
	opening := machine.PeakMemory()
	return l.tell(Event{Kind: "start", Model: l.config.Model, Method: l.config.Method, Matrices: tensors,
		Parameters: parameters, Windows: l.train.Len(), ValWindows: l.val.Len(), TotalSteps: l.total,
		Threads: l.config.ThreadCount(), WorkBytes: l.plan.Activations + l.plan.Head, Planned: l.plan.Total(), Plan: &l.plan, Opening: opening,
		MicroBatch: l.plan.MicroBatch, Step: l.step, Data: data.Describe(l.train, l.val), Notes: slices.Concat(l.train.Stats().Notes(l.config.Ctx), l.validationNote(), l.taskNotes(), l.plan.notes(opening))})
}

// takeMemory takes the memory of the plan. What was read to get here is given back first: the header
// of the base, the text of the data, llama.cpp's graph and a checkpoint may together be larger than a part of the plan.
func (l *loop) takeMemory() error {
	debug.FreeOSMemory()
	kernels.Trim()
	if err := l.engine.Allocate(); err != nil {
		return err
	}
	l.placeStatistics()
	if l.opt == nil {
		l.opt = optim.NewAdamW(l.params, l.config.WeightDecay)
	}
	l.stepper = NewStepper(StepperOptions{Engine: l.engine, Params: l.params, Values: l.values, Optimizer: l.opt,
		Schedule: l.schedule, DeltaWarmup: l.config.DeltaWarmupSteps(l.total), Clip: l.config.Clip, Threads: l.config.ThreadCount()})
	return nil
}

// layout returns the layout of the run's checkpoints.
func (l *loop) layout() layout { return layout{l.params, l.statisticsParams} }

// begin measures the validation loss before the first step: of the base, while the factors still change nothing, and of the
// adapter that the run goes on from.
func (l *loop) begin(ctx context.Context) error {
	if l.step > 0 {
		return nil
	}
	l.stepper.setShare(0) // for who does not begin with a ΔW of 0
	loss, err := l.measure(ctx, Event{Kind: "eval"})
	l.stepper.setShare(1)
	if err != nil {
		return err
	}
	if l.val != nil && !loss.Measured() {
		return l.baseError("validation loss", float64(loss))
	}
	l.totals.BaseValLoss = float64(loss)
	l.stepper.setShare(0)
	err = l.sample(ctx)
	l.stepper.setShare(1)
	if err != nil || !l.trainable.start() {
		return err
	}
	l.engine.Upload()
	_, err = l.measure(ctx, Event{Kind: "eval", Initial: true})
	return err
}

// measuringInterval is how often is told how far something between two steps has come.
const measuringInterval = 500 * time.Millisecond

// measuring returns what tells how far something that is done between two steps has come.
func (l *loop) measuring(what string) func(done, of int) {
	said := l.now()
	return func(done, of int) {
		if now := l.now(); l.report != nil && now.Sub(said) >= measuringInterval {
			said = now
			l.report(Event{Kind: "measuring", Time: said.UTC(), What: what, Done: int64(done), Of: int64(of)})
		}
	}
}

// measure finds the validation loss, if anything is held out, and tells it in an event.
func (l *loop) measure(ctx context.Context, e Event) (eval.Loss, error) {
	loss, err := l.validate(ctx, l.measuring("validation"))
	if err != nil {
		return loss, err
	}
	if l.step > 0 {
		l.measured = measured{l.step, loss}
		l.judge(loss)
	}
	if l.val == nil {
		return loss, nil
	}
	e.Step, e.Loss = l.step, loss
	return loss, l.tell(e)
}

// next takes one optimizer step and does what is due after it.
func (l *loop) next(ctx context.Context) error {
	start, before := time.Now(), l.sampler.cursor
	l.keepStatistics()
	r, err := l.stepper.Step(ctx, l.sampler.Batch(l.config.Batch*l.config.GradAccum))
	if err != nil {
		l.sampler.back(before)
		l.restoreStatistics()
	}
	if diverged := (*DivergedError)(nil); errors.As(err, &diverged) {
		return l.diverged(diverged)
	}
	if err != nil {
		return err
	}
	l.step++
	l.losses = append(l.losses, r.Loss)
	l.totals.Seconds += time.Since(start).Seconds()
	l.totals.TrainedTokens += r.Trained
	l.totals.RawTokens += int64(r.Windows) * int64(l.config.Ctx)
	if err := l.tellStep(r); err != nil {
		return err
	}
	return l.afterStep(ctx)
}

func (l *loop) afterStep(ctx context.Context) error {
	if l.evalDue() {
		if _, err := l.measure(ctx, Event{Kind: "eval"}); err != nil {
			return err
		}
		if err := l.sample(ctx); err != nil {
			return err
		}
	}
	late := l.config.CheckpointMinutes > 0 && l.step < l.total && l.now().Sub(l.saved).Minutes() >= l.config.CheckpointMinutes
	if l.due(l.config.CheckpointEvery) || late {
		return l.checkpoint()
	}
	return nil
}

// due reports whether the step is one of those after which something is done, the last one aside.
func (l *loop) due(every int) bool { return every > 0 && l.step%every == 0 && l.step < l.total }

func (l *loop) evalDue() bool { return l.val != nil && l.due(l.config.EvalEvery) }

func (l *loop) tellStep(r StepResult) error {
	seconds := max(l.totals.Seconds, 1e-9)
	e := Event{Kind: "step", Step: l.step, Loss: eval.Loss(r.Loss), LR: r.LR, GradNorm: r.GradNorm, TotalSteps: l.total, Memory: machine.PeakMemory(),
		TokensPerSecond: float64(l.totals.TrainedTokens) / seconds, RawPerSecond: float64(l.totals.RawTokens) / seconds,
		SecondsLeft: l.totals.Seconds / float64(l.step) * float64(l.total-l.step)}
	if every := max(1, l.config.LogEvery); l.step%every != 0 && l.step != l.total {
		if l.report != nil {
			l.report(e)
		}
		return nil
	}
	return l.tell(e)
}

// tell writes an event to the log and to whoever listens.
func (l *loop) tell(e Event) error {
	e.Time = time.Now().UTC()
	if l.report != nil {
		l.report(e)
	}
	if l.dir == nil { // a rehearsal
		return nil
	}
	if err := l.dir.Log(e); err != nil {
		return &logError{err}
	}
	return nil
}
