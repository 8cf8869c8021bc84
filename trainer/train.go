package trainer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"finetune/adapter"
	"finetune/imatrix"
	"finetune/internal/hint"
	"finetune/kernels"
	"finetune/trainer/data"
	"finetune/trainer/graph"
)

// ErrInterrupted is what Train returns when its context was cancelled: the step under way was finished and a checkpoint
// written.
var ErrInterrupted = errors.New("interrupted")

// notMeasured stands for a loss that nobody computed.
var notMeasured = Loss(math.NaN())

// keptCheckpoints is how many checkpoints stay in a run directory: the newest, and one before it.
const keptCheckpoints = 2

// loop is a run between its steps.
type loop struct {
	*setup
	run    *Run
	id     [sha256.Size]byte // identity, for the checkpoints
	params []Param
	opt    *AdamW
	values [][]float32
	grads  [][]float32
	seen   []Param     // statistics of the adapted weights
	square [][]float32 // their sums, in the engine's memory; until it has any, what a checkpoint held
	tokens int64       // that those of the checkpoint are over
	rate   Schedule
	total  int
	deal   *dealer

	step   int
	totals Totals
	losses []float64
	report func(Event)
}

// Train runs a configuration, which Validate has accepted, from the start or, with resume, from the newest checkpoint in
// its run directory. report gets every event and may be nil. The run directory holds adapter.gguf, or with MethodFull
// model.gguf, exactly when the run is done. Cancelling ctx ends the run after the step under way, or amid a validation, with ErrInterrupted.
func Train(ctx context.Context, c Config, resume bool, report func(Event)) (_ *Summary, err error) {
	run, err := openRun(c, resume)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	s, err := newSetup(c)
	if err != nil {
		return nil, err
	}
	defer s.close()
	l, err := newLoop(s, run, report)
	if err != nil {
		return nil, err
	}
	if err := l.restore(resume); err != nil {
		return nil, err
	}
	if err := c.Save(run.Path(ConfigFile)); err != nil {
		return nil, err
	}
	summary, err := l.proceed(ctx)
	if err != nil && errors.Is(err, ctx.Err()) {
		err = l.interrupt()
	}
	return summary, err
}

// proceed goes from where the loop stands to the end.
func (l *loop) proceed(ctx context.Context) (*Summary, error) {
	if err := l.tellPlan(); err != nil {
		return nil, err
	}
	if err := l.takeMemory(); err != nil {
		return nil, err
	}
	if err := l.measureBase(ctx); err != nil {
		return nil, err
	}
	for l.step < l.total {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := l.next(ctx); err != nil {
			return nil, err
		}
	}
	return l.finish(ctx)
}

// openRun makes the run directory, or takes up one that was made with the same settings.
func openRun(c Config, resume bool) (*Run, error) {
	if !resume {
		return CreateRun(c.Out)
	}
	run, err := OpenRun(c.Out)
	if err != nil {
		return nil, err
	}
	if err := resumable(run, c); err != nil {
		return nil, errors.Join(err, run.Close())
	}
	return run, nil
}

// resumable refuses a run that is done, and settings that would make it another run.
func resumable(run *Run, c Config) error {
	if _, err := os.Stat(run.Path(c.ResultFile())); err == nil {
		return hint.With(fmt.Errorf("trainer: run directory %q: the run is done", run.Dir()), "a longer training is a new run")
	}
	saved, err := LoadConfig(run.Path(ConfigFile))
	if err != nil {
		return err
	}
	if keys := saved.Changed(c); len(keys) > 0 {
		return hint.With(fmt.Errorf("trainer: run directory %q: made with other values of %s", run.Dir(), strings.Join(keys, ", ")), otherRun)
	}
	return nil
}

// otherRun is the way out for who wants to change what a run learns.
const otherRun = "resume with the settings in config.yaml, or start a new run in another folder"

func newLoop(s *setup, run *Run, report func(Event)) (*loop, error) {
	l := &loop{setup: s, run: run, id: s.identity(), report: report, total: s.config.totalSteps(s.train.Len())}
	l.totals.BaseValLoss = math.NaN()
	l.params, l.values = s.learner.params()
	l.seen = s.learner.observed()
	var err error
	l.rate, err = NewSchedule(s.config.Schedule, s.config.LR, s.config.MinLR, l.total, s.config.WarmupSteps(l.total))
	l.deal = &dealer{windows: s.train, seed: s.config.Seed}
	if s.config.Steps == 0 {
		l.deal.passes = s.config.Epochs
	}
	return l, err
}

// restore puts the newest checkpoint back, if the run is to be resumed and has one.
func (l *loop) restore(resume bool) error {
	if !resume {
		return nil
	}
	path, _, err := l.run.LatestCheckpoint()
	if errors.Is(err, fs.ErrNotExist) {
		return l.run.TruncateLog(0)
	}
	if err != nil {
		return err
	}
	c, err := ReadCheckpoint(path, l.layout())
	switch {
	case errors.Is(err, ErrCheckpointCorrupt):
		return hint.With(err, "without that file, --resume goes on from the checkpoint before it")
	case err != nil:
		return hint.With(err, otherRun)
	}
	if c.ConfigHash != l.id {
		return hint.With(fmt.Errorf("trainer: checkpoint %q: made with another base or other data", path), otherRun)
	}
	for i, v := range c.Values {
		copy(l.values[i], v)
	}
	l.opt = NewAdamW(l.params, l.config.WeightDecay)
	l.opt.Restore(c.Step, c.M, c.V)
	l.step, l.totals, l.losses = c.Step, c.Totals, c.Losses
	l.square, l.tokens = c.Squares, c.Tokens
	if l.deal.at = c.Cursor; c.Cursor.Index >= l.train.Len() || c.Step > l.total {
		return fmt.Errorf("trainer: checkpoint %q: at step %d and window %d of %d and %d", path, c.Step, c.Cursor.Index, l.total, l.train.Len())
	}
	return l.run.TruncateLog(c.Step)
}

// tellPlan tells what will be done, and the memory that it will take.
func (l *loop) tellPlan() error {
	tensors, parameters := l.learner.size()
	opening := PeakMemory()
	return l.tell(Event{Kind: "start", Model: l.config.Model, Method: l.config.Method, Matrices: tensors,
		Parameters: parameters, Windows: l.train.Len(), ValWindows: length(l.val), TotalSteps: l.total,
		Threads: l.config.threads(), WorkBytes: l.plan.Activations + l.plan.Head, Planned: l.plan.Total(), Plan: &l.plan, Opening: opening,
		MicroBatch: l.seqs, Step: l.step, Notes: append(notes(l.train.Stats(), l.config), l.plan.notes(opening)...)})
}

// takeMemory is the moment when the memory of the plan is taken. What was read to get here is given back first: the header
// of the base, the text of the data, llama.cpp's graph and a checkpoint may together be larger than a part of the plan.
func (l *loop) takeMemory() error {
	debug.FreeOSMemory()
	kernels.Trim()
	if err := l.engine.Allocate(); err != nil {
		return err
	}
	for _, g := range l.engine.Gradients() {
		l.grads = append(l.grads, g.Data)
	}
	l.observe()
	if l.opt == nil {
		l.opt = NewAdamW(l.params, l.config.WeightDecay)
	}
	return nil
}

// observe finds the statistics in the engine, and puts those of a checkpoint there.
func (l *loop) observe() {
	earlier, all := l.square, l.engine.Squares()
	l.square = nil
	for i, p := range l.seen {
		l.square = append(l.square, all[p.Name])
		if earlier != nil {
			copy(l.square[i], earlier[i])
		}
	}
	l.engine.AddTokens(l.tokens)
}

// layout is that of the run's checkpoints.
func (l *loop) layout() Layout { return Layout{l.params, l.seen} }

// measureBase is the validation loss before the first step.
func (l *loop) measureBase(ctx context.Context) error {
	if l.step > 0 || l.val == nil {
		return nil
	}
	loss, err := l.validate(ctx) // the factors still change nothing
	if err != nil {
		return err
	}
	l.totals.BaseValLoss = float64(loss)
	return l.tell(Event{Kind: "eval", Loss: loss})
}

// next is one optimizer step and what is due after it.
func (l *loop) next(ctx context.Context) error {
	start := time.Now()
	before := l.deal.at
	windows := l.deal.next(l.config.Batch * l.config.GradAccum)
	loss, err := l.gradients(windows, totalWeight(windows))
	if err != nil {
		return err
	}
	norm := ClipGlobalNorm(l.grads, l.config.Clip)
	if !healthy(loss, norm) {
		return l.diverged(before, loss, norm)
	}
	l.step++
	rate := l.rate.LR(l.step)
	l.opt.Step(rate, l.values, l.grads)
	l.engine.Upload()

	l.losses = append(l.losses, loss)
	l.totals.Seconds += time.Since(start).Seconds()
	l.totals.TrainedTokens += trainedTokens(windows)
	l.totals.RawTokens += int64(len(windows) * l.config.Ctx)
	if err := l.tellStep(loss, rate, norm); err != nil {
		return err
	}
	return l.afterStep(ctx)
}

// healthy tells whether a step may be taken. Factors that have grown too large show as losses that are no number, or, where
// a norm over an overflown state gives zeros, as a loss without any gradient.
func healthy(loss, norm float64) bool {
	return Loss(loss+norm).Measured() && (norm > 0 || loss == 0)
}

// gradients is the mean loss over all the step's trained tokens, however many forward passes they take, and its gradient.
func (l *loop) gradients(windows []data.Window, weight float64) (float64, error) {
	l.engine.Reset()
	var sum float64
	for len(windows) > 0 {
		n := min(l.seqs, len(windows))
		err := l.pace.do(n, func(threads int) error {
			l.engine.SetThreads(threads)
			loss, err := l.engine.Step(l.fill(windows[:n]), float32(1/weight))
			sum += loss
			return err
		})
		if err != nil {
			return 0, err
		}
		windows = windows[n:]
	}
	return sum / weight, nil
}

func (l *loop) afterStep(ctx context.Context) error {
	due := func(every int) bool { return every > 0 && l.step%every == 0 && l.step < l.total }
	if due(l.config.EvalEvery) && l.val != nil {
		loss, err := l.validate(ctx)
		if err != nil {
			return err
		}
		if err := l.tell(Event{Kind: "eval", Step: l.step, Loss: loss}); err != nil {
			return err
		}
	}
	if due(l.config.CheckpointEvery) {
		return l.checkpoint(l.deal.at)
	}
	return nil
}

func (l *loop) checkpoint(at Cursor) error {
	m, v := l.opt.Moments()
	path := l.run.CheckpointPath(l.step)
	err := WriteCheckpoint(path, &Checkpoint{ConfigHash: l.id, Step: l.step, Cursor: at, Totals: l.totals,
		Losses: l.losses, Layout: l.layout(), Values: l.values, M: m, V: v, Tokens: l.engine.Tokens(), Squares: l.square})
	if err != nil {
		return err
	}
	if err := l.run.PruneCheckpoints(keptCheckpoints); err != nil {
		return err
	}
	return l.tell(Event{Kind: "checkpoint", Step: l.step, File: path})
}

func (l *loop) interrupt() error {
	if err := l.checkpoint(l.deal.at); err != nil {
		return err
	}
	return hint.With(fmt.Errorf("trainer: %w after step %d of %d", ErrInterrupted, l.step, l.total),
		"--resume continues where it stopped")
}

// diverged keeps the factors as they were before the step that is not healthy.
func (l *loop) diverged(before Cursor, loss, norm float64) error {
	if err := l.checkpoint(before); err != nil {
		return err
	}
	return hint.With(fmt.Errorf("trainer: step %d: loss %v, gradient norm %v: training diverged, the state after step %d is kept in %q",
		l.step+1, loss, norm, l.step, l.run.CheckpointPath(l.step)), divergedHint)
}

const divergedHint = "a lower --lr or a longer --warmup is the usual cure"

// finish measures the result and writes it.
func (l *loop) finish(ctx context.Context) (*Summary, error) {
	loss, err := l.validate(ctx)
	if err != nil {
		return nil, err
	}
	if l.val != nil {
		if err := l.tell(Event{Kind: "eval", Step: l.step, Loss: loss}); err != nil {
			return nil, err
		}
		if !loss.Measured() {
			return nil, hint.With(fmt.Errorf("trainer: step %d: validation loss %v: training diverged", l.step, float64(loss)), divergedHint)
		}
	}
	if err := l.checkpoint(l.deal.at); err != nil {
		return nil, err
	}
	path, err := l.save()
	if err != nil {
		return nil, err
	}
	seconds := max(l.totals.Seconds, 1e-9)
	s := &Summary{
		Steps: l.step, BaseValLoss: Loss(l.totals.BaseValLoss), ValLoss: loss, TrainLoss: l.recentLoss(),
		TrainedTokens: l.totals.TrainedTokens, RawTokens: l.totals.RawTokens, Seconds: l.totals.Seconds,
		TrainedRate: float64(l.totals.TrainedTokens) / seconds, RawRate: float64(l.totals.RawTokens) / seconds,
		PeakMemory: PeakMemory(), Run: l.run.Dir(), Result: path,
	}
	if l.config.Method != MethodFull {
		s.Adapter = path
	}
	return s, l.tell(Event{Kind: "done", TokensPerSecond: s.TrainedRate, RawPerSecond: s.RawRate, Summary: s})
}

// save writes what the run has made, the result last: it says that the run is done.
func (l *loop) save() (result string, err error) {
	origin, err := l.origin()
	if err != nil {
		return "", err
	}
	data, _ := origin[adapter.KeyDataHash].(string)
	if err := l.saveStatistics(data); err != nil {
		return "", err
	}
	result = l.run.Path(l.config.ResultFile())
	return result, l.learner.save(result, origin)
}

// saveStatistics writes what the inputs and outputs of the adapted weights were like on the data of a hash.
func (l *loop) saveStatistics(data string) error {
	if len(l.seen) == 0 {
		return nil
	}
	m := imatrix.Matrix{Datasets: []string{data}, Chunks: int(l.engine.Tokens()) / l.config.Ctx,
		ChunkSize: l.config.Ctx, Entries: map[string]imatrix.Entry{}}
	for i, p := range l.seen {
		if weight, ok := strings.CutSuffix(p.Name, graph.SuffixInputs); ok {
			m.Entries[weight] = imatrix.Entry{Sum2: l.square[i], Grad2: l.square[i+1], Tokens: float32(l.engine.Tokens())}
		}
	}
	return m.Save(l.run.Path(ImatrixFile))
}

// recentLoss is the mean training loss of the last tenth of the steps, at least one.
func (l *loop) recentLoss() Loss {
	recent := l.losses[len(l.losses)-max(1, len(l.losses)/10):]
	var sum float64
	for _, loss := range recent {
		sum += loss
	}
	return Loss(sum / float64(len(recent)))
}

func (l *loop) tellStep(loss, rate, norm float64) error {
	seconds := max(l.totals.Seconds, 1e-9)
	e := Event{Kind: "step", Step: l.step, Loss: Loss(loss), LR: rate, GradNorm: norm, TotalSteps: l.total,
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
	return l.run.Log(e)
}
