package trainer

import (
	"finetune/eval"
	"finetune/internal/setting"
	"finetune/run"
)

// best is what --patience and --keep best go by: the lowest validation loss so far. Validations while ΔW is faded in do not
// count, since the result has all of it.
type best struct {
	Judged int         // step of the last validation that counted; 0 = none yet
	Step   int         // of the lowest loss; 0 = none yet
	Loss   float64     // there
	Waited int         // validations since
	Values [][]float32 // the parameters at Step; nil unless they are to be kept and Step is behind
}

// checkJudged refuses settings that go by the validation loss where nothing is held out.
func (l *loop) checkJudged() error {
	if l.val != nil || !l.config.Judges() {
		return nil
	}
	key, got := "keep", "best"
	if l.config.Patience > 0 {
		key, got = "patience", "more"
	}
	return &setting.Error{Key: key, Want: "val or val-fraction with it: nothing is held out that could be measured", Got: got}
}

// judge notes the validation loss after the steps so far.
func (l *loop) judge(loss eval.Loss) {
	b := &l.best
	if !l.config.Judges() || l.step <= b.Judged || deltaShare(l.step, l.config.DeltaWarmupSteps(l.total)) < 1 {
		return
	}
	b.Judged = l.step
	if !loss.Measured() || b.Step > 0 && float64(loss) >= b.Loss {
		b.Waited++
		return
	}
	b.Step, b.Loss, b.Waited = l.step, float64(loss), 0
	if !l.config.KeepsBest() {
		return
	}
	if b.Values == nil {
		b.Values = clones(l.values)
		return
	}
	for i, v := range l.values {
		copy(b.Values[i], v)
	}
}

// exhausted reports whether the run is to stop because its loss has not fallen for long enough.
func (l *loop) exhausted() bool { return l.config.Patience > 0 && l.best.Waited >= l.config.Patience }

// takeBest makes the parameters those of the lowest validation loss, and reports whether they were others.
func (l *loop) takeBest() bool {
	b := l.best
	if !l.config.KeepsBest() || b.Step == 0 || b.Step == l.step {
		return false
	}
	for i, v := range b.Values {
		copy(l.values[i], v)
	}
	l.engine.Upload()
	return true
}

// judgedSettings are free to change when a run is resumed, unless validations decide what it ends with.
func judgedSettings(saved, c run.Config) (changed []string) {
	if !saved.Judges() {
		return nil
	}
	if saved.EvalEvery != c.EvalEvery {
		changed = append(changed, "eval-every")
	}
	if saved.ValTokens != c.ValTokens {
		changed = append(changed, "val-tokens")
	}
	return changed
}
