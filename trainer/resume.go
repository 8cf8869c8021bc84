package trainer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"finetune/internal/hint"
	"finetune/run"
	"finetune/trainer/optim"
)

// Ways out for who wants to change what a run learns.
const (
	otherRun   = "resume with the settings in config.yaml, or start a new run in another folder"
	longerHint = "a longer training is a new run: train --init-from %s goes on from its adapter"
)

// settled returns the settings with the learning rate that the run in c.Out has found, where c leaves it open.
func settled(c run.Config) run.Config {
	if saved, err := run.LoadSaved(c.Out); err == nil && c.LR.Open() {
		c.LR = saved.LR
	}
	return c
}

// openDir makes the run directory, or takes up one that was made with the same settings.
func openDir(c run.Config, resume bool) (*run.Dir, error) {
	if !resume {
		return run.Create(c.Out)
	}
	dir, err := run.Open(c.Out)
	if err != nil {
		return nil, err
	}
	if err := resumable(dir, c); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// resumable refuses a run that is done, and settings that would make it another run.
func resumable(dir *run.Dir, c run.Config) error {
	longer := fmt.Sprintf(longerHint, dir.Name())
	if c.Method == run.MethodFull {
		longer = fmt.Sprintf("a longer training is a new run over %s", dir.Path(run.ModelFile))
	}
	if _, err := os.Stat(dir.Path(c.ResultFile())); err == nil {
		return hint.With(fmt.Errorf("run directory %q: the run is done", dir.Name()), longer)
	}
	saved, err := run.LoadSaved(dir.Name())
	if err != nil {
		return err
	}
	keys := append(saved.Changed(c), judgedSettings(saved, c)...)
	if same, err := run.SameTemplate(dir.Name(), c.Template); err != nil {
		return err
	} else if !same {
		keys = append(keys, "template")
	}
	if len(keys) == 0 {
		return nil
	}
	hints := []string{otherRun}
	if slices.Contains(keys, "steps") || slices.Contains(keys, "epochs") {
		hints = append(hints, longer)
	}
	return hint.With(fmt.Errorf("run directory %q: made with other values of %s", dir.Name(), strings.Join(keys, ", ")), hints...)
}

// restore puts the newest checkpoint back, if the run is to be resumed and has one.
func (l *loop) restore(resume bool) error {
	if !resume {
		return nil
	}
	path, _, err := l.dir.LatestCheckpoint()
	if errors.Is(err, fs.ErrNotExist) {
		return l.dir.TruncateLog(0, "eval", "samples", "range")
	}
	if err != nil {
		return err
	}
	c, err := readCheckpoint(path, l.layout())
	switch {
	case errors.Is(err, ErrCheckpointCorrupt):
		return hint.With(err, "without that file, --resume goes on from the checkpoint before it")
	case err != nil:
		return hint.With(err, otherRun)
	}
	if err := l.checkIdentity(c); err != nil {
		return hint.With(fmt.Errorf("trainer: checkpoint %q: made with %w", path, err), otherRun)
	}
	if c.Cursor.Index >= l.train.Len() || c.Step > l.total {
		return fmt.Errorf("trainer: checkpoint %q: at step %d and window %d of %d and %d", path, c.Step, c.Cursor.Index, l.total, l.train.Len())
	}
	if c.Step > 0 { // before the first step the parameters follow from the settings
		for i, v := range c.Values {
			copy(l.values[i], v)
		}
	}
	l.opt = optim.NewAdamW(l.params, l.config.WeightDecay)
	l.opt.Restore(c.Step, c.M, c.V)
	l.step, l.totals, l.losses, l.sampler.cursor = c.Step, c.Totals, c.Losses, c.Cursor
	l.statistics, l.earlierTokens, l.savedStep = c.Statistics, c.Tokens, c.Step
	if c.Best != nil {
		l.best = *c.Best
	}
	var again []string // where the first validation and the last are made once more
	switch {
	case l.step == 0:
		again = []string{"eval", "samples", "range"}
	case l.step == l.total, l.exhausted():
		again = []string{"eval", "samples"}
	default:
		l.owed = l.evalDue() && !l.dir.HasLogged("eval", l.step)
	}
	return l.dir.TruncateLog(c.Step, again...)
}

// checkIdentity says what of a checkpoint's run is not that of this one.
func (l *loop) checkIdentity(c *checkpoint) error {
	switch {
	case c.Joined != nil:
		if *c.Joined != joined(l.config, l.id.Hash, l.train, l.val) {
			return errors.New("another base or other data")
		}
	case c.Identity.Settings != l.learned.Settings:
		return errors.New("other settings")
	case !c.Identity.isBase(l.id):
		return errors.New("another base")
	case c.Identity.Data != l.learned.Data:
		return errors.New("other data")
	}
	return nil
}
