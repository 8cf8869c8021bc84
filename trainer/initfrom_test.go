package trainer

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/convert"
	"finetune/internal/hint"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/run"
)

// none is for settings of which the user has given none.
func none(string) bool { return false }

// goOn is a run of its own that goes on from the adapter of another.
func goOn(t *testing.T, c run.Config, from string) run.Config {
	c = testrun.Elsewhere(t, c)
	c.InitFrom = from
	return c
}

func TestTrainingGoesOnFromAnAdapter(t *testing.T) {
	for _, method := range testrun.Methods {
		c := testrun.By(method, testrun.Tiny(t))
		c.Steps = 30
		first, _ := mustTrain(t, c, false)
		file := filepath.Join(t.TempDir(), "copy.gguf")
		if err := os.WriteFile(file, testrun.Result(t, c.Out), 0o666); err != nil {
			t.Fatal(err)
		}
		for _, from := range []string{c.Out, file} {
			r := goOn(t, c, from)
			r.Data, r.Val, r.ValFraction = c.Data, "", c.ValFraction
			r.Steps, r.LR = 4, 1e-3
			var start []Event
			s, err := Train(context.Background(), r, false, func(e Event) {
				if e.Kind == "eval" && e.Step == 0 {
					start = append(start, e)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(start) != 2 || start[0].Initial || !start[1].Initial {
				t.Fatalf("%s: validations before the first step %+v, want the base's, then the adapter's", method, start)
			}
			if start[0].Loss != first.BaseValLoss || start[1].Loss != first.ValLoss {
				t.Errorf("%s: begins at %v and %v, want %v of the base and %v where the first run ended", method, start[0].Loss, start[1].Loss, first.BaseValLoss, first.ValLoss)
			}
			if s.BaseValLoss != first.BaseValLoss || !(s.ValLoss < first.BaseValLoss) {
				t.Errorf("%s: %v → %v", method, s.BaseValLoss, s.ValLoss)
			}
		}
	}
}

// A run that goes on from an adapter resumes to the same bytes, without that adapter.
func TestRunThatGoesOnResumes(t *testing.T) {
	c := testrun.Tiny(t)
	c.Method, c.Steps = "lora", 5
	mustTrain(t, c, false)
	whole := goOn(t, c, c.Out)
	whole.Seed, whole.Steps = 4, 6
	mustTrain(t, whole, false)
	stopped := testrun.Elsewhere(t, whole)
	interrupt(t, stopped, false, 3)
	if err := os.Rename(c.Out, c.Out+"-gone"); err != nil {
		t.Fatal(err)
	}
	mustTrain(t, stopped, true)
	sameResult(t, "goes on", whole.Out, stopped.Out, 6)
}

func TestFollowInitialTakesTheAdaptersSettings(t *testing.T) {
	c := testrun.Tiny(t)
	c.Method, c.Rank, c.Alpha, c.Targets, c.Steps = "lora", 3, 6, "attn_q|ffn_down", 2
	mustTrain(t, c, false)
	r := run.DefaultConfig()
	r.Model, r.Data, r.InitFrom = c.Model, c.Data, c.Out
	got, err := FollowInitial(r, none)
	if err != nil {
		t.Fatal(err)
	}
	if got.Method != "lora" || got.Rank != 3 || got.Alpha != 6 || got.Targets != "attn_q|ffn_down" {
		t.Errorf("FollowInitial = %s, rank %d, alpha %v, targets %q", got.Method, got.Rank, got.Alpha, got.Targets)
	}
	r.Rank = 5
	if got, err = FollowInitial(r, func(key string) bool { return key == "rank" }); err != nil || got.Rank != 5 {
		t.Errorf("FollowInitial with a rank of the user's = %d, %v", got.Rank, err)
	}
}

// A folder of PEFT's is converted on the way.
func TestTrainingGoesOnFromPEFT(t *testing.T) {
	c := testrun.Tiny(t)
	c.Method, c.Steps = "lora", 20
	first, _ := mustTrain(t, c, false)
	folder := filepath.Join(t.TempDir(), "peft")
	if _, err := convert.Run(convert.Config{From: filepath.Join(c.Out, run.AdapterFile), To: convert.PEFT, Model: c.Model, Out: folder}); err != nil {
		t.Fatal(err)
	}
	testrun.NoLeavings(t)
	r := goOn(t, c, folder)
	r, err := FollowInitial(r, none)
	if err != nil {
		t.Fatal(err)
	}
	r.Steps = 1
	var begin Event
	if _, err := Train(context.Background(), r, false, func(e Event) {
		if e.Initial {
			begin = e
		}
	}); err != nil {
		t.Fatal(err)
	}
	if begin.Loss != first.ValLoss {
		t.Errorf("begins at %v, want %v where the adapter stands", begin.Loss, first.ValLoss)
	}
}

func TestInitFromIsRefused(t *testing.T) {
	lora := testrun.Tiny(t)
	lora.Method, lora.Steps = "lora", 1
	mustTrain(t, lora, false)
	full := testrun.By(run.MethodFull, testrun.Elsewhere(t, lora))
	mustTrain(t, full, false)
	unequal := unequalRanks(t, filepath.Join(lora.Out, run.AdapterFile))
	for _, tt := range []struct {
		name   string
		change func(*run.Config)
		want   string
		hinted bool
	}{
		{"another base", func(c *run.Config) {
			c.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: 64, Seed: 9})
		}, "trained on another base", true},
		{"another rank", func(c *run.Config) { c.Rank = 6 }, "has rank 4, want 6", true},
		{"another method", func(c *run.Config) { c.Method = "dual-lora" }, "holds a lora adapter, want dual-lora", true},
		{"another scale", func(c *run.Config) { c.Alpha = 12 }, "scale 1, want 3", true},
		{"other targets", func(c *run.Config) { c.Targets = "attention" }, `is on 7 matrices, targets "attention" are 4`, true},
		{"several ranks", func(c *run.Config) { c.InitFrom = unequal }, "want one rank", true},
		{"a run without an adapter", func(c *run.Config) { c.InitFrom = full.Out }, "there is no adapter", true},
		{"no adapter", func(c *run.Config) { c.InitFrom = c.Model }, `general.type is "model", want "adapter"`, false},
		{"nothing there", func(c *run.Config) { c.InitFrom = "none.gguf" }, "no such file", false},
	} {
		testrun.NoLeavings(t)
		c := goOn(t, lora, lora.Out)
		tt.change(&c)
		_, err := Train(context.Background(), c, false, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || (len(hint.Of(err)) > 0) != tt.hinted {
			t.Errorf("%s: Train = %v, hints %q, want one line with %q", tt.name, err, hint.Of(err), tt.want)
		}
		if testrun.Exists(c.Out) {
			t.Errorf("%s: leaves a run directory", tt.name)
		}
	}
}

// unequalRanks writes a LoRA whose first weight has a rank less than the others.
func unequalRanks(t *testing.T, path string) string {
	t.Helper()
	a, err := adapter.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := adapter.Decompose(context.Background(), a, adapter.DecomposeOptions{Budget: a.Parameters()})
	if err != nil {
		t.Fatal(err)
	}
	ranks := make([]int, len(a.Weights))
	for i := range ranks {
		ranks[i] = 4
	}
	ranks[0] = 3
	low, _, err := d.Project(ranks)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "unequal.gguf")
	if err := low.WriteLoRA(out, adapter.LoRAOptions{}); err != nil {
		t.Fatal(err)
	}
	return out
}
