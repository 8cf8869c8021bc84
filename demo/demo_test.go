package demo

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"finetune/internal/need"
	"finetune/models"
	"finetune/run"
)

// What the demos are to show: of the embedded base nine tenths of the answers with the right words, of a chat model 19 of 20, and
// all of the questions answered as before.
const (
	leastEmbedded  = 0.9
	leastChat      = 0.95
	leastRetention = 0.95
)

// What a tenth of the steps teaches: the form in most answers, and not the words yet. An export of the rank of the training is
// measured once, where the demo looks for the smallest that keeps enough.
const (
	shortSteps  = 30
	shortInForm = 6
)

func TestEmbeddedBaseLearnsTheTask(t *testing.T) {
	o := Options{Dir: filepath.Join(t.TempDir(), "demo"), Threads: 1, steps: forTheEmbedded().steps}
	if testing.Short() {
		o.steps, o.exportRank = shortSteps, forTheEmbedded().rank
	}
	r := shown(t, o)
	n := len(r.Answers)
	if testing.Short() {
		if r.InForm.After < shortInForm {
			t.Errorf("%d answers in the taught form after, want at least %d of %d: %+v", r.InForm.After, shortInForm, n, r.Answers)
		}
	} else if !(float64(r.Correct.After) >= leastEmbedded*float64(n)) {
		t.Errorf("%d right answers after, want %g of %d: %+v", r.Correct.After, leastEmbedded, n, r.Answers)
	}
	if len(r.Losses) != o.steps {
		t.Errorf("%d losses, want %d", len(r.Losses), o.steps)
	}
	for _, name := range []string{BaseFile, TaskFile, AdapterFile, filepath.Join(RunDir, run.AdapterFile)} {
		if _, err := os.Stat(r.Path(name)); err != nil {
			t.Error(err)
		}
	}
}

// mostLost is how many of the questions may lose their word. How a processor rounds takes 32 steps of training another way: on a Sapphire
// Rapids the writer of Romeo and Juliet lost his name, on all others that were tried he kept it.
const mostLost = 1

func TestChatModelLearnsTheTaskAndKeepsItsManners(t *testing.T) {
	need.Long(t, "trains a chat model of 135 million parameters")
	r := shown(t, Options{Dir: filepath.Join(t.TempDir(), "demo"), Model: chatModel(t)})
	n := len(r.Answers)
	if !(float64(r.Correct.After) >= leastChat*float64(n)) {
		t.Errorf("%d right answers after, want %g of %d: %+v", r.Correct.After, leastChat, n, r.Answers)
	}
	if r.Kept < len(questions)-mostLost || len(r.Talk) != len(questions) {
		t.Errorf("%d of %d questions answered as before, want %d at least: %+v", r.Kept, len(r.Talk), len(questions)-mostLost, r.Talk)
	}
	for i, q := range questions {
		if !hasWord(r.Talk[i].Before, q.word) {
			t.Errorf("%q: the base answers %q, without %q: nothing is shown by this question", q.text, r.Talk[i].Before, q.word)
		}
	}
	if _, err := os.Stat(r.Path(BaseFile)); err == nil {
		t.Errorf("%q is there, want a model that lies elsewhere left where it is", r.Path(BaseFile))
	}
}

// chatModel returns what scripts/real-model has brought.
func chatModel(t *testing.T) string {
	t.Helper()
	store, err := models.FromEnvironment(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	found, err := store.Resolve(context.Background(), "smollm2", nil)
	if err != nil {
		need.Skip(t, need.Model, err.Error())
	}
	return found.Path
}

// shown runs a demo and holds what every one is to show.
func shown(t *testing.T, o Options) *Result {
	t.Helper()
	r, err := Run(context.Background(), o, func(string) {}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("in form %+v, right %+v of %d, %d of %d kept; loss %v → %v", r.InForm, r.Correct, len(r.Answers), r.Kept, len(r.Talk), r.Train.BaseValLoss, r.Train.ValLoss)
	if r.InForm.Before != 0 || r.Correct.After > r.InForm.After {
		t.Errorf("%d answers in the taught form before, %d after, %d of them right, want 0 before: %+v", r.InForm.Before, r.InForm.After, r.Correct.After, r.Answers)
	}
	if !(r.Export.Retention >= leastRetention) || !(r.Train.ValLoss < r.Train.BaseValLoss) {
		t.Errorf("retention %v, validation loss %v → %v", r.Export.Retention, r.Train.BaseValLoss, r.Train.ValLoss)
	}
	return r
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
