package export

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/classify"
	"finetune/eval"
	"finetune/internal/near"
	"finetune/internal/setting"
	"finetune/internal/testrun"
	"finetune/internal/testrun/trained"
	"finetune/run"
)

// Of a run with a task its own loss is measured, with the factors as they are in the file, and the classifier goes along.
func TestExportOfAClassifiersRun(t *testing.T) {
	for _, method := range testrun.Methods {
		t.Run(method, func(t *testing.T) {
			c := testrun.Classifying(t, "bert")
			c.Method, c.Steps = method, 6 // after more there is next to no loss left to tell adapters apart by
			c = c.Completed(nil)
			s := trained.Run(t, c)
			for name, change := range map[string]func(*Config){"own rank": func(*Config) {}, "exact": func(x *Config) { x.Mode = ModeExact }} {
				x, r := exported(t, c, change)
				if r.Task != run.TaskClassify || r.DualLossBy != ByEngine || !near.Enough(float64(r.DualLoss), float64(s.ValLoss), sameEngineTolerance) || !(r.DualLoss < r.BaseLoss) {
					t.Fatalf("%s: base %v, as trained %v by %s, want the run's %v", name, r.BaseLoss, r.DualLoss, r.DualLossBy, s.ValLoss)
				}
				if !(r.Retention > leastKept) {
					t.Errorf("%s: keeps %v", name, r.Retention)
				}
				want := filepath.Join(filepath.Dir(x.Out), run.ClassifierFile)
				if r.Classifier != want || string(testrun.Read(t, filepath.Dir(want), run.ClassifierFile)) != string(testrun.Read(t, c.Out, run.ClassifierFile)) {
					t.Errorf("%s: classifier %q, want a copy of the run's at %q", name, r.Classifier, want)
				}
				if got := lossByLlama(t, c, x.Out, want); !near.Enough(got, float64(r.ExportLoss), llamaTolerance) {
					t.Errorf("%s: the file has a loss of %v by llama.cpp's states, the result says %v", name, got, r.ExportLoss)
				}
			}
		})
	}
}

const (
	// sameEngineTolerance is for one engine's loss of the same windows, in passes of other lengths.
	sameEngineTolerance = 1e-5
	// leastKept is what a projection to the own rank keeps here at least, 99.3 % were seen.
	leastKept = 0.98
	// llamaTolerance is what llama.cpp's GELU, a table in half precision, moves a loss by; 3e-6 were seen, 3e-5 after ten steps.
	llamaTolerance = 1e-4
)

// lossByLlama is the mean loss over what the run held out, of the probabilities that a classifier gives for llama.cpp's states.
func lossByLlama(t *testing.T, c run.Config, lora, classifier string) (loss float64) {
	t.Helper()
	m := testrun.Model(t, c)
	_, val := testrun.Data(t, m, c)
	h, err := classify.Load(classifier)
	if err != nil {
		t.Fatal(err)
	}
	e, err := eval.NewReader(m, c.Ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Attach(lora, 1); err != nil {
		t.Fatal(err)
	}
	texts, right := val.Classified()
	p, err := e.Classify(context.Background(), texts, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range right {
		loss -= math.Log(float64(p[i][k])) / float64(len(right))
	}
	return loss
}

func TestExportOfATaskRefuses(t *testing.T) {
	c := testrun.Classifying(t, "bert")
	c.Steps = 2
	trained.Run(t, c)
	x := DefaultConfig()
	x.Run, x.Out, x.Threads = c.Out, filepath.Join(t.TempDir(), "out.gguf"), 1

	heal := x
	heal.Mode = ModeHeal
	var s *setting.Error
	if _, err := Run(context.Background(), heal, nil); !errors.As(err, &s) || s.Key != "mode" || !strings.Contains(s.Want, "task classify") {
		t.Errorf("healing = %v, want that it is for text", err)
	}

	other := filepath.Join(filepath.Dir(x.Out), run.ClassifierFile)
	if err := os.WriteFile(other, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), x, nil); err == nil || !strings.Contains(err.Error(), other) {
		t.Errorf("beside another classifier = %v, want that it is kept", err)
	}
	if _, err := os.Stat(x.Out); !os.IsNotExist(err) {
		t.Errorf("an adapter was left: %v", err)
	}
	x.Force = true
	if _, err := Run(context.Background(), x, nil); err != nil {
		t.Errorf("with Force: %v", err)
	}
}
