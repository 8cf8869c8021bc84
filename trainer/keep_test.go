package trainer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/internal/testrun"
	"finetune/run"
)

// overfits is a run whose validation loss falls and then rises: at too high a rate over few words.
func overfits(t *testing.T, method string) run.Config {
	c := testrun.Tiny(t)
	c.Data, c.Val = testrun.Write(t, "train.txt", testrun.Story(6)), testrun.Write(t, "val.txt", strings.Repeat("the cat sat on a mat. ", 20))
	c.ValFraction = 0
	c = testrun.By(method, c)
	c.Steps, c.LR, c.Schedule, c.EvalEvery, c.CheckpointEvery = 40, 3e-2, "constant", 2, 3
	return c.Completed(none)
}

// evals are the validations of a run by step, as log.jsonl tells of them.
func evals(t *testing.T, dir string) (steps []int, losses []float64) {
	t.Helper()
	for _, e := range testrun.Logged(t, dir) {
		if step, _ := e["step"].(float64); e["event"] == "eval" && step > 0 {
			steps, losses = append(steps, int(step)), append(losses, e["loss"].(float64))
		}
	}
	return steps, losses
}

// lowest is what judging by hand comes to: the step of the lowest loss among those that count, and the one that patience ends at.
func lowest(steps []int, losses []float64, from, patience int) (best, end int) {
	least, waited := 0.0, 0
	for i, step := range steps {
		switch {
		case step < from:
			continue
		case best == 0 || losses[i] < least:
			best, least, waited = step, losses[i], 0
		default:
			waited++
		}
		if end = step; patience > 0 && waited == patience {
			return best, end
		}
	}
	return best, end
}

func TestPatience(t *testing.T) {
	for _, method := range []string{"lora", "dual-lora", "dora", run.MethodFull} {
		whole := overfits(t, method)
		mustTrain(t, whole, false)
		steps, losses := evals(t, whole.Out)
		const patience = 3
		best, end := lowest(steps, losses, whole.DeltaWarmupSteps(whole.Steps), patience)
		if best == end || end == whole.Steps {
			t.Fatalf("%s: lowest at step %d, patience ends at %d: a test of nothing; %v %.4f", method, best, end, steps, losses)
		}
		c := testrun.Elsewhere(t, whole)
		c.Patience = patience
		s, _ := mustTrain(t, c, false)
		got, _ := evals(t, c.Out)
		if s.Steps != end || s.KeptStep != best || !s.Stopped || got[len(got)-1] != end || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%s: ends at step %d with that of step %d (stopped: %v) after validations at %v; want %d and %d", method, s.Steps, s.KeptStep, s.Stopped, got, end, best)
		}
		if at := losses[slices.Index(steps, best)]; float64(s.ValLoss) != at || float64(*s.LastValLoss) != losses[slices.Index(steps, end)] {
			t.Errorf("%s: losses %v and %v, want %v of the best and %v of the last step", method, s.ValLoss, *s.LastValLoss, at, losses[slices.Index(steps, end)])
		}
		atStep(t, method, c, whole, best)

		last := testrun.Elsewhere(t, c)
		last.Keep = "last"
		if s, _ := mustTrain(t, last, false); s.KeptStep != end || s.Steps != end || s.ValLoss != *s.LastValLoss {
			t.Errorf("%s: --keep last keeps step %d of %d", method, s.KeptStep, s.Steps)
		}
		atStep(t, method+" --keep last", last, whole, end)

		all := testrun.Elsewhere(t, c)
		all.Patience, all.Keep = 0, "best"
		best, _ = lowest(steps, losses, whole.DeltaWarmupSteps(whole.Steps), 0)
		if s, _ := mustTrain(t, all, false); s.KeptStep != best || s.Steps != whole.Steps || s.Stopped {
			t.Errorf("%s: --keep best keeps step %d of %d, want %d", method, s.KeptStep, s.Steps, best)
		}
	}
}

// atStep fails unless the result of c is what the whole run had after a step: that of a run of the same settings which is stopped
// there, and of which the checkpoint is read.
func atStep(t *testing.T, what string, c, whole run.Config, step int) {
	t.Helper()
	stopped := testrun.Elsewhere(t, whole)
	interrupt(t, stopped, false, step)
	s := opened(t, whole)
	params, _ := s.trainable.params()
	held, err := readCheckpoint(filepath.Join(stopped.Out, fmt.Sprintf("checkpoint-%08d.zst", step)), layout{params, s.trainable.statistics()})
	if err != nil {
		t.Fatal(err)
	}
	if c.Method == run.MethodFull {
		_, values := s.trainable.params()
		for i, v := range held.Values {
			copy(values[i], v)
		}
		path := filepath.Join(t.TempDir(), "model.gguf")
		if err := s.trainable.save(path, nil); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(testrun.Read(t, path), testrun.Result(t, c.Out)) {
			t.Errorf("%s: the model is not that of step %d", what, step)
		}
		return
	}
	a, err := adapter.Load(filepath.Join(c.Out, run.AdapterFile))
	if err != nil {
		t.Fatal(err)
	}
	_, got := AdapterParams(a, c.Recipe())
	for i, v := range held.Values {
		if !slices.Equal(got[i], v) {
			t.Errorf("%s: %s is not that of step %d", what, params[i].Name, step)
			return
		}
	}
}

// Interrupted anywhere, a run with patience ends with the same bytes and the same log.
func TestPatienceIsResumed(t *testing.T) {
	for _, method := range []string{"dual-lora", "dora", run.MethodFull} {
		c := overfits(t, method)
		c.Patience = 3
		want, _ := mustTrain(t, c, false)
		steps, losses := evals(t, c.Out)
		for _, stops := range [][]int{{want.KeptStep}, {want.KeptStep + 1}, {want.Steps - 1}, {1, want.KeptStep + 2}} {
			r := testrun.Elsewhere(t, c)
			for i, k := range stops {
				interrupt(t, r, i > 0, k)
			}
			got, _ := mustTrain(t, r, true)
			what := fmt.Sprintf("%s, stopped after %v of %d", method, stops, want.Steps)
			sameResult(t, what, c.Out, r.Out, want.Steps)
			if again, lost := evals(t, r.Out); !slices.Equal(again, steps) || !slices.Equal(lost, losses) {
				t.Errorf("%s: validations at %v, want %v, or their losses differ", what, again, steps)
			}
			if got.KeptStep != want.KeptStep || got.Steps != want.Steps || got.ValLoss != want.ValLoss || !got.Stopped {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
		}
		// killed after its last checkpoint, before the result had its name
		r := testrun.Elsewhere(t, c)
		mustTrain(t, r, false)
		removeResult(t, r)
		mustTrain(t, r, true)
		sameResult(t, method+", killed at its end", c.Out, r.Out, want.Steps)
		if again, _ := evals(t, r.Out); !slices.Equal(again, steps) {
			t.Errorf("%s, killed at its end: validations at %v, want %v", method, again, steps)
		}
	}
}

// What decides when to stop cannot change in between.
func TestPatienceKeepsItsValidations(t *testing.T) {
	c := overfits(t, "lora")
	c.Patience = 3
	interrupt(t, c, false, 5)
	for key, change := range map[string]func(*run.Config){
		"eval-every": func(c *run.Config) { c.EvalEvery = 3 }, "val-tokens": func(c *run.Config) { c.ValTokens = 16 },
		"patience": func(c *run.Config) { c.Patience = 4 }, "keep": func(c *run.Config) { c.Keep = "last" },
	} {
		other := c
		change(&other)
		if _, err := Train(t.Context(), other, true, nil); err == nil || !strings.Contains(err.Error(), "made with other values of "+key) {
			t.Errorf("another %s: %v, want a refusal that names it", key, err)
		}
	}
}

func TestPatienceWantsValidation(t *testing.T) {
	c := overfits(t, "lora")
	c.Patience, c.Val, c.ValFraction = 3, "", 0
	if _, err := Train(t.Context(), c, false, nil); err == nil || !strings.Contains(err.Error(), `setting "patience"`) {
		t.Errorf("%v, want that nothing is held out", err)
	}
}

// removeResult makes a run that is done one that was killed before it was.
func removeResult(t *testing.T, c run.Config) {
	t.Helper()
	if err := os.Remove(filepath.Join(c.Out, c.ResultFile())); err != nil {
		t.Fatal(err)
	}
}
