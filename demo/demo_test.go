package demo

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/run"
)

// What the demo is to show: the form in nearly all held-out answers, and in none of the base's; some of them right.
const (
	leastInForm    = 9
	leastRetention = 0.95
)

// What a tenth of the steps teaches: the form in most answers, and nothing right yet. Ten were seen in form. An export of the
// rank of the training is measured once, where the demo looks for the smallest that keeps enough.
const (
	shortSteps  = 30
	shortInForm = 6
)

func TestDemoTeachesTheForm(t *testing.T) {
	o, inForm, correct := Options{Dir: filepath.Join(t.TempDir(), "demo"), Threads: 1, steps: steps}, leastInForm, 1
	if testing.Short() {
		o.steps, o.exportRank, inForm, correct = shortSteps, rank, shortInForm, 0
	}
	r, err := Run(context.Background(), o, func(string) {}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.InForm.Before != 0 || r.InForm.After < inForm {
		t.Errorf("%d answers in the taught form before, %d after, want 0 and at least %d of %d: %+v",
			r.InForm.Before, r.InForm.After, inForm, len(r.Answers), r.Answers)
	}
	if r.Correct.After < correct || r.Correct.After > r.InForm.After {
		t.Errorf("%d right answers after, %d in form, want at least %d right", r.Correct.After, r.InForm.After, correct)
	}
	if !(r.Export.Retention >= leastRetention) || !(r.Train.ValLoss < r.Train.BaseValLoss) || len(r.Losses) != o.steps {
		t.Errorf("retention %v, validation loss %v → %v, %d losses", r.Export.Retention, r.Train.BaseValLoss, r.Train.ValLoss, len(r.Losses))
	}
	for _, name := range []string{BaseFile, TaskFile, AdapterFile, filepath.Join(RunDir, run.AdapterFile)} {
		if _, err := os.Stat(r.Path(name)); err != nil {
			t.Error(err)
		}
	}
}

func TestSecondDemoLeavesTheFirstAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	for _, want := range []string{dir, dir + "-2", dir + "-3"} {
		if got, err := newFolder(dir); got != want || err != nil {
			t.Errorf("newFolder = %q, %v, want %q", got, err, want)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if got, err := newFolder(filepath.Join(file, "demo")); err == nil {
		t.Errorf("newFolder below a file = %q, want an error", got)
	}
}

func TestInForm(t *testing.T) {
	for answer, want := range map[string]bool{
		`{"who": "Tom", "count": 3, "what": "cats"}`:            true,
		` {"count":3,"who":"Tom","what":"cats"} `:               true,
		`{"who": "Tom", "count": 3}`:                            false,
		`{"who": "Tom", "count": "3", "what": "cats"}`:          false,
		`{"who": "Tom", "count": 3, "what": "cats", "why": ""}`: false,
		`{"who": "Tom", "count": 3, "what": "cats"} or so`:      false,
		`Tom has 3 cats`: false,
		``:               false,
	} {
		if _, ok := inForm(answer); ok != want {
			t.Errorf("inForm(%q) = %v, want %v", answer, ok, want)
		}
	}
}

// TestHeldOutIsHeldOut: no sentence that is asked is in the task.
func TestHeldOutIsHeldOut(t *testing.T) {
	all := examples()
	if len(all) != 10 {
		t.Errorf("%d held-out sentences, want 10", len(all))
	}
	for _, x := range all {
		if bytes.Contains(task, []byte(x.sentence)) || strings.TrimSpace(x.sentence) == "" {
			t.Errorf("%q is in the task", x.sentence)
		}
	}
}
