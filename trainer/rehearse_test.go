package trainer

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/internal/need"
	"finetune/internal/testrun"
	"finetune/run"
)

// nothingWritten fails if a rehearsal of c leaves anything in the folders that it might write to.
func nothingWritten(t *testing.T, c run.Config) *Estimate {
	t.Helper()
	at := t.TempDir()
	for _, name := range []string{"XDG_CACHE_HOME", "TMPDIR"} {
		t.Setenv(name, filepath.Join(at, name))
		if err := os.Mkdir(filepath.Join(at, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	c.Out = filepath.Join(at, "out", "run")
	var kinds []string
	e, err := Rehearse(context.Background(), c, func(e Event) { kinds = append(kinds, e.Kind) })
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(at, func(path string, d os.DirEntry, err error) error {
		if name := d.Name(); err == nil && path != at && name != "XDG_CACHE_HOME" && name != "TMPDIR" {
			t.Errorf("%q was written", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(strings.Join(kinds, " "), "start") != 1 || strings.Contains(strings.Join(kinds, " "), "step") {
		t.Errorf("tells %q, want the start and no steps", kinds)
	}
	return e
}

// A rehearsal counts what the run then does, whatever is trained, and writes nothing.
func TestRehearsalIsOfTheRun(t *testing.T) {
	for _, tt := range []struct {
		method, start string
		lr            run.Rate
		steps, every  int
	}{{"lora", "", 1e-3, 5, 2}, {"dual-lora", "thin", run.AutoRate, shortestTested, 40}, {"dual-lora", "gradient", run.Usual, 4, 0}, {"dora", "", 1e-3, 2, 1}, {"full", "", 1e-3, 5, 2}} {
		c := testrun.By(tt.method, testrun.Tiny(t))
		c.Start, c.LR, c.Steps, c.EvalEvery = tt.start, tt.lr, tt.steps, tt.every
		c = c.Completed(none)
		e := nothingWritten(t, c)
		s, _ := mustTrain(t, c, false)
		evals := 0
		for _, logged := range testrun.Logged(t, c.Out) {
			if logged["event"] == "eval" {
				evals++
			}
		}
		if e.Steps != s.Steps || e.Validations != evals || len(e.Timed) != min(timedSteps, tt.steps) {
			t.Errorf("%s: rehearsed %d steps (%d timed) and %d validations, the run has %d and %d", tt.method, e.Steps, len(e.Timed), e.Validations, s.Steps, evals)
		}
		if (e.RangeTest > 0) != (tt.lr == run.AutoRate) || e.StepSeconds <= 0 || e.ValSeconds <= 0 || e.Trained <= 0 || e.Planned <= 0 || e.PeakMemory <= 0 ||
			e.Seconds < e.StepSeconds*float64(e.Steps)+e.ValSeconds*float64(e.Validations) {
			t.Errorf("%s: estimate %+v", tt.method, e)
		}
	}
}

// Of data that is large enough for the cache no tokens stay there.
func TestRehearsalOfLargeData(t *testing.T) {
	need.Long(t, "tokenizes 9 MB")
	c := testrun.Tiny(t)
	c.Data = testrun.Write(t, "large.txt", strings.Repeat(testrun.Story(200)+"\n", 9<<20/len(testrun.Story(200))+1))
	c.ValTokens = 100
	nothingWritten(t, c)
}

func TestRehearsalRefuses(t *testing.T) {
	c := testrun.Tiny(t)
	mustTrain(t, c, false)
	if _, err := Rehearse(context.Background(), c, nil); err == nil || !strings.Contains(err.Error(), "holds a run already") {
		t.Errorf("%v, want that there is a run already", err)
	}
	c.Out = testrun.Write(t, "file", "x")
	if _, err := Rehearse(context.Background(), c, nil); err == nil || !strings.Contains(err.Error(), "is a file") {
		t.Errorf("%v, want that it is a file", err)
	}
}
