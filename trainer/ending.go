package trainer

import (
	"errors"
	"fmt"

	"finetune/eval"
	"finetune/internal/atomicfile"
	"finetune/internal/hint"
)

// What a run leaves behind while it goes on, and where it ends before its last step.

// checkpoint writes one, and tells of it.
func (l *loop) checkpoint() error {
	path, err := l.writeCheckpoint()
	if err != nil {
		return err
	}
	return l.tell(Event{Kind: "checkpoint", Step: l.step, File: path})
}

// writeCheckpoint writes a checkpoint of the state after the last step. Older ones are removed once it is whole: on a disk that
// has no room for it beside two of them, all but the newest before.
func (l *loop) writeCheckpoint() (path string, err error) {
	m, v := l.opt.Moments()
	c := &checkpoint{Identity: l.learned, Step: l.step, Cursor: l.sampler.cursor, Totals: l.totals,
		Losses: l.losses, Layout: l.layout(), Values: l.values, M: m, V: v, Tokens: l.engine.Tokens(), Statistics: l.statistics}
	if l.config.Judges() {
		c.Best = &l.best
	}
	path = l.dir.CheckpointPath(l.step)
	err = writeCheckpoint(path, c)
	if atomicfile.IsFull(err) && l.dir.PruneCheckpoints(1) == nil {
		err = writeCheckpoint(path, c)
	}
	if err != nil {
		return "", l.unsaved(err)
	}
	l.saved, l.savedStep = l.now(), l.step
	return path, l.dir.PruneCheckpoints(keptCheckpoints)
}

// unsaved says what is left of a run whose checkpoint could not be written.
func (l *loop) unsaved(err error) error {
	if l.savedStep < 0 {
		return err
	}
	return hint.With(err, fmt.Sprintf("--resume goes on from the checkpoint of step %d", l.savedStep))
}

// rescue writes a checkpoint of what was learned since the last one, where the run ends because its log cannot be written, or
// because its device fails: the parameters, and what they are learned with, are in the memory of the CPU.
func (l *loop) rescue(err error) error {
	if l.stepper == nil || l.step <= l.savedStep || l.step == 0 {
		return err
	}
	if _, failed := l.writeCheckpoint(); failed != nil {
		return errors.Join(err, failed)
	}
	return hint.With(err, fmt.Sprintf("--resume goes on from the checkpoint of step %d", l.step))
}

func (l *loop) interrupt() error {
	if l.stepper == nil { // while the start was looked for: all of it follows from the settings
		return hint.With(fmt.Errorf("trainer: %w before its first step", ErrInterrupted), "--resume begins it again")
	}
	if err := l.checkpoint(); err != nil {
		return err
	}
	return hint.With(fmt.Errorf("trainer: %w after step %d of %d", ErrInterrupted, l.step, l.total),
		"--resume continues where it stopped")
}

// baseError is for a base that gives no loss before anything was learned: no rate would cure that.
func (l *loop) baseError(what string, loss float64) error {
	return hint.With(fmt.Errorf("trainer: base %q: want a %s that is a number before the first step, got %v", l.config.Model, what, loss),
		"the weights of the model are damaged, or too large for its activations")
}

// diverged keeps the parameters as they were before the step that is not healthy.
func (l *loop) diverged(err *DivergedError) error {
	if l.step == 0 && !eval.Loss(err.Loss).Measured() {
		return l.baseError("loss", err.Loss)
	}
	if err := l.checkpoint(); err != nil {
		return err
	}
	return hint.With(fmt.Errorf("trainer: step %d: %w: training diverged, the state after step %d is kept in %q",
		l.step+1, err, l.step, l.dir.CheckpointPath(l.step)), divergedHint)
}

const divergedHint = "a lower --lr or a longer --warmup is the usual cure"
