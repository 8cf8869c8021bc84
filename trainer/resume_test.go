package trainer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/run"
)

// epochs is a run of several passes over its data, with a last step that is not full.
func epochs(t *testing.T, method string, accum int) run.Config {
	c := testrun.Tiny(t)
	c.Data = testrun.Write(t, "train.txt", testrun.Story(16))
	c.Steps, c.Epochs, c.Batch, c.GradAccum, c.CheckpointEvery = 0, 3, 2, accum, 2
	return testrun.By(method, c)
}

// interrupt trains until step k is reported, then cancels.
func interrupt(t *testing.T, c run.Config, resume bool, k int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := Train(ctx, c, resume, func(e Event) {
		if e.Kind == "step" && e.Step == k {
			cancel()
		}
	})
	if !errors.Is(err, ErrInterrupted) {
		t.Fatalf("Train cancelled after step %d = %v, want ErrInterrupted", k, err)
	}
}

// sameResult compares what a run has made, byte for byte, and its log with those of a run of n steps that never stopped.
func sameResult(t *testing.T, what, whole, resumed string, n int) {
	t.Helper()
	if !bytes.Equal(testrun.Result(t, whole), testrun.Result(t, resumed)) {
		t.Errorf("%s: the result differs from that of a run that never stopped", what)
	}
	if a, b := filepath.Join(whole, run.ImatrixFile), filepath.Join(resumed, run.ImatrixFile); testrun.Exists(a) && !bytes.Equal(testrun.Read(t, a), testrun.Read(t, b)) {
		t.Errorf("%s: %s differs from that of a run that never stopped", what, run.ImatrixFile)
	}
	if got := loggedSteps(t, resumed); !slices.Equal(got, countTo(n)) {
		t.Errorf("%s: log.jsonl has the steps %v, want each of %d once", what, got, n)
	}
}

func TestResumedRunEqualsOneThatNeverStopped(t *testing.T) {
	for _, method := range append(testrun.Methods, run.MethodFull) {
		for _, accum := range []int{1, 2} {
			c := epochs(t, method, accum)
			want, losses := mustTrain(t, c, false)
			n := len(losses)
			if n < 6 {
				t.Fatalf("%d steps, want enough to interrupt", n)
			}
			for _, stops := range [][]int{{1}, {2}, {n / 2}, {n - 1}, {1, 2, n - 2}} {
				r := testrun.Elsewhere(t, c)
				for i, k := range stops {
					interrupt(t, r, i > 0, k)
				}
				got, rest := mustTrain(t, r, true)
				what := fmt.Sprintf("%s, %d parts, stopped after %v of %d", method, accum, stops, n)
				sameResult(t, what, c.Out, r.Out, n)
				if last := stops[len(stops)-1]; !slices.Equal(rest, losses[last:]) {
					t.Errorf("%s: losses %v, want %v", what, rest, losses[last:])
				}
				if got.ValLoss != want.ValLoss || got.BaseValLoss != want.BaseValLoss || got.TrainLoss != want.TrainLoss ||
					got.TrainedTokens != want.TrainedTokens || got.RawTokens != want.RawTokens || got.Steps != want.Steps {
					t.Errorf("%s: summary %+v, want %+v", what, *got, *want)
				}
			}
		}
	}
}

func TestRunCancelledBeforeItsFirstStepResumes(t *testing.T) {
	c := epochs(t, "dual-lora", 1)
	_, losses := mustTrain(t, c, false)
	r := testrun.Elsewhere(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Train(ctx, r, false, nil); !errors.Is(err, ErrInterrupted) {
		t.Fatalf("Train = %v, want ErrInterrupted", err)
	}
	s, _ := mustTrain(t, r, true)
	sameResult(t, "cancelled at once", c.Out, r.Out, len(losses))
	if !s.BaseValLoss.Measured() {
		t.Error("the base was not measured after all")
	}
}

// A killed process writes no checkpoint: the run goes on from the last one that was due, and what the log says of later
// steps is written anew.
func TestKilledRunResumes(t *testing.T) {
	c := epochs(t, "dual-lora", 1)
	_, losses := mustTrain(t, c, false)
	r := testrun.Elsewhere(t, c)
	interrupt(t, r, false, 5)
	if err := os.Remove(filepath.Join(r.Out, "checkpoint-00000005.zst")); err != nil {
		t.Fatal(err)
	}
	log := append(testrun.Read(t, r.Out, run.LogFile), `{"event":"step","step":6,"lo`...)
	for name, content := range map[string][]byte{run.LogFile: log, ".finetune-0badcafe.tmp": []byte("half a checkpoint"), ".lock": []byte("1\n")} {
		if err := os.WriteFile(filepath.Join(r.Out, name), content, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	_, rest := mustTrain(t, r, true)
	sameResult(t, "killed in step 6", c.Out, r.Out, len(losses))
	if !slices.Equal(rest, losses[4:]) {
		t.Errorf("losses after the checkpoint of step 4: %v, want %v", rest, losses[4:])
	}
}

func TestRunKilledBeforeItsFirstCheckpointStartsAnew(t *testing.T) {
	c := epochs(t, "dual-lora", 1)
	_, losses := mustTrain(t, c, false)
	r := testrun.Elsewhere(t, c)
	interrupt(t, r, false, 1)
	if err := os.Remove(filepath.Join(r.Out, "checkpoint-00000001.zst")); err != nil {
		t.Fatal(err)
	}
	mustTrain(t, r, true)
	sameResult(t, "killed in step 2", c.Out, r.Out, len(losses))
}

func TestRunKilledBeforeItWroteTheAdapterResumes(t *testing.T) {
	c := epochs(t, "dual-lora", 1)
	want, losses := mustTrain(t, c, false)
	adapter := testrun.Read(t, c.Out, run.AdapterFile)
	if err := os.Remove(filepath.Join(c.Out, run.AdapterFile)); err != nil {
		t.Fatal(err)
	}
	got, rest := mustTrain(t, c, true)
	if len(rest) > 0 || !bytes.Equal(testrun.Read(t, c.Out, run.AdapterFile), adapter) || got.ValLoss != want.ValLoss {
		t.Errorf("%d more steps, validation loss %v, want none, %v and the same adapter.gguf", len(rest), got.ValLoss, want.ValLoss)
	}
	if steps := loggedSteps(t, c.Out); !slices.Equal(steps, countTo(len(losses))) {
		t.Errorf("log.jsonl has the steps %v, want each of %d once", steps, len(losses))
	}
}

func TestResumeRefusesAnotherRun(t *testing.T) {
	c := epochs(t, "dual-lora", 1)
	interrupt(t, c, false, 3)
	before := listing(t, c.Out)
	for _, tt := range []struct {
		name   string
		change func(*run.Config)
		want   string
	}{
		{"learning rate", func(c *run.Config) { c.LR *= 2 }, "made with other values of lr"},
		{"rank and seed", func(c *run.Config) { c.Rank, c.Seed = 6, 2 }, "made with other values of rank, seed"},
		{"method", func(c *run.Config) { c.Method = "lora" }, "made with other values of method"},
		{"more epochs", func(c *run.Config) { c.Epochs = 9 }, "made with other values of epochs"},
		{"data", func(c *run.Config) { c.Data = testrun.Write(t, "other.txt", "the cat "+testrun.Story(16)) }, "made with other data"},
		{"base", func(c *run.Config) {
			c.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: 64, Seed: 9})
		}, "made with another base"},
		{"base in another type", func(c *run.Config) {
			c.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: 64, Type: gguf.TypeF16})
		}, "made with another base"},
		{"base of another shape", func(c *run.Config) {
			c.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 64, FF: 48, Ctx: 64})
		}, "elements, want"},
		{"no such run", func(c *run.Config) { c.Out = filepath.Join(t.TempDir(), "none") }, "no run in it, config.yaml is missing"},
	} {
		r := c
		tt.change(&r)
		_, err := Train(context.Background(), r, true, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: Train = %v, want one line with %q", tt.name, err, tt.want)
		}
		hints := []string{otherRun}
		switch tt.name {
		case "no such run":
			hints = nil
		case "more epochs":
			hints = append(hints, fmt.Sprintf("a longer training is a new run: train --init-from %s goes on from its adapter", c.Out))
		}
		if got := hint.Of(err); !slices.Equal(got, hints) {
			t.Errorf("%s: hints %q, want %q", tt.name, got, hints)
		}
	}
	if after := listing(t, c.Out); !slices.Equal(after, before) {
		t.Errorf("refused runs left %v in the directory, want %v", after, before)
	}
	mustTrain(t, c, true)
}

// What a run computes with, and where its files are, may change.
func TestResumeTakesOtherPathsAndThreads(t *testing.T) {
	c := epochs(t, "dual-lora", 1)
	_, losses := mustTrain(t, c, false)
	r := testrun.Elsewhere(t, c)
	interrupt(t, r, false, 3)
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(r.Out, moved); err != nil {
		t.Fatal(err)
	}
	r.Out, r.Data, r.Model = moved, testrun.Write(t, "copy.txt", testrun.Story(16)), testrun.Write(t, "copy.gguf", string(testrun.Read(t, c.Model)))
	r.EvalEvery, r.MaxMemory = 1, "1GiB"
	mustTrain(t, r, true)
	sameResult(t, "moved", c.Out, r.Out, len(losses))
}

func TestFinishedRunIsNotResumed(t *testing.T) {
	c := testrun.Tiny(t)
	c.Steps = 2
	mustTrain(t, c, false)
	before := listing(t, c.Out)
	_, err := Train(context.Background(), c, true, nil)
	if err == nil || !strings.Contains(err.Error(), "the run is done") || len(hint.Of(err)) == 0 {
		t.Errorf("Train = %v, hints %q, want it refused with a hint", err, hint.Of(err))
	}
	if after := listing(t, c.Out); !slices.Equal(after, before) {
		t.Errorf("the directory holds %v, want %v", after, before)
	}
}

func TestResumeRefusesADamagedCheckpoint(t *testing.T) {
	c := epochs(t, "lora", 1)
	interrupt(t, c, false, 3)
	path := filepath.Join(c.Out, "checkpoint-00000003.zst")
	content := testrun.Read(t, path)
	if err := os.WriteFile(path, content[:len(content)-5], 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := Train(context.Background(), c, true, nil)
	if !errors.Is(err, ErrCheckpointCorrupt) || len(hint.Of(err)) == 0 {
		t.Errorf("Train = %v, hints %q, want ErrCheckpointCorrupt and a hint", err, hint.Of(err))
	}
	if err := os.Remove(path); err != nil { // as the hint says
		t.Fatal(err)
	}
	mustTrain(t, c, true)
}

// listing is what a directory holds, names and sizes.
func listing(t *testing.T, dir string) (files []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, fmt.Sprintf("%s %d", e.Name(), info.Size()))
	}
	return files
}
