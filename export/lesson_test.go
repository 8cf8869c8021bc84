package export

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"finetune/adapter"
	"finetune/eval"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/internal/testrun/trained"
	"finetune/run"
	"finetune/trainer"
)

// How far apart the figures of real runs may be.
const (
	baseRounding = 0.01 // of the figure in the lesson
	baseByType   = 0.02 // between the types of the base file
	finalByType  = 0.03 // likewise, after training
	exactLoss    = 0.01 // between the trainer and llama.cpp with the exact export
	healedShare  = 0.97 // of the gain that healing for a quarter of the steps has to keep, at the adapter's own rank
)

// lesson is what a model learns, with its figures: the validation loss of the base, and the most that is left after training
// by a method.
type lesson struct {
	model  func(t *testing.T, typ gguf.Type) string
	data   func(t *testing.T) string
	steps  int
	base   float64
	losses map[string]float64
}

// lessons: the demo's base learns its task, and a model of children's stories Shakespeare. The bounds leave some hundredths
// above what was seen, for another order of additions on another machine.
var lessons = map[string]lesson{
	"the demo's task": {
		model: func(t *testing.T, typ gguf.Type) string {
			path := filepath.Join(t.TempDir(), "base-"+typ.String()+".gguf")
			if err := testmodel.Retype(need.Own(t, "demo/base.gguf"), path, typ); err != nil {
				t.Fatal(err)
			}
			return path
		},
		data:   func(t *testing.T) string { return need.Own(t, "demo/task.jsonl") },
		steps:  30,
		base:   5.06,
		losses: map[string]float64{"dual-lora": 0.45, "lora": 0.39, run.MethodFull: 0.35},
	},
	"Shakespeare": {
		model: func(t *testing.T, typ gguf.Type) string {
			return need.Shared(t, "models/stories260K-"+typ.String()+".gguf")
		},
		data:   func(t *testing.T) string { return need.Shared(t, "text/tinyshakespeare.txt") },
		steps:  200,
		base:   5.27,
		losses: map[string]float64{"dual-lora": 3.10, "lora": 3.05, run.MethodFull: 2.92},
	},
}

// retained is what projections of so many times the adapter's own parameters have to keep.
var retained = []struct {
	times int
	share float64
}{{1, 0.85}, {2, 0.95}, {4, 0.98}}

// settings are those of a run that the figures belong to.
func (l lesson) settings(t *testing.T, typ gguf.Type, method string) run.Config {
	c := run.DefaultsOf(method)
	c.Model, c.Data, c.Out = l.model(t, typ), l.data(t), filepath.Join(t.TempDir(), "run")
	c.Ctx, c.Batch, c.Steps, c.Threads = 128, 4, l.steps, 1
	if method == run.MethodFull {
		return c
	}
	c.Rank, c.Alpha, c.LR = 8, 16, 1e-2
	if method == "dual-lora" {
		c.Alpha = 8 // s = alpha/r1 = 2, as for LoRA
	}
	return c
}

// part is a run of a lesson.
type part struct {
	method string
	typ    gguf.Type
}

// parts are the runs that are compared; the first is exported too.
var parts = []part{
	{"dual-lora", gguf.TypeF32}, {"lora", gguf.TypeF32}, {run.MethodFull, gguf.TypeF32},
	{run.MethodFull, gguf.TypeF16}, {"dual-lora", gguf.TypeQ8_0}, {"dual-lora", gguf.TypeF16},
}

func TestLearns(t *testing.T) {
	need.Long(t, "trains for a quarter of a minute")
	for name, l := range lessons {
		t.Run(name, l.check)
	}
}

// check takes the lesson by every method, and compares the runs.
func (l lesson) check(t *testing.T) {
	results := map[part]*trainer.Summary{}
	var healed eval.Loss
	t.Run("runs", func(t *testing.T) { // ends when the parallel ones have
		for i, p := range parts {
			c, s := l.settings(t, p.typ, p.method), new(trainer.Summary)
			results[p] = s
			t.Run(p.method+" "+p.typ.String(), func(t *testing.T) {
				t.Parallel()
				*s = *trained.Run(t, c)
				l.checkRun(t, p, s)
				if i == 0 {
					exportsKeepWhatWasLearned(t, c, s, &healed)
				}
			})
		}
	})
	if whole := results[parts[0]]; whole != nil && !t.Failed() {
		l.compare(t, results, healed)
	}
}

func (l lesson) checkRun(t *testing.T, p part, s *trainer.Summary) {
	t.Logf("%.4f → %.4f, %.0f tokens/s", s.BaseValLoss, s.ValLoss, s.TrainedRate)
	rounding, most := baseRounding, l.losses[p.method]
	if p.typ != gguf.TypeF32 {
		rounding, most = baseRounding+baseByType, most+finalByType
	}
	if !near.Enough(s.BaseValLoss, l.base, rounding) {
		t.Errorf("validation loss of the base is %.4f, want %.2f", s.BaseValLoss, l.base)
	}
	if !(float64(s.ValLoss) <= most) {
		t.Errorf("validation loss is %.4f, want at most %.2f", s.ValLoss, most)
	}
}

// compare holds the runs against each other: every tensor learns more than a LoRA does, a healed Dual LoRA no less, and the
// type of the base hardly matters.
func (l lesson) compare(t *testing.T, results map[part]*trainer.Summary, healed eval.Loss) {
	whole, lora, full := results[parts[0]], results[part{"lora", gguf.TypeF32}], results[part{run.MethodFull, gguf.TypeF32}]
	if !(full.ValLoss < lora.ValLoss) || full.TrainedTokens != lora.TrainedTokens {
		t.Errorf("trained whole the loss is %.4f after %d tokens, with LoRA %.4f after %d, want less after as many",
			full.ValLoss, full.TrainedTokens, lora.ValLoss, lora.TrainedTokens)
	}
	if t.Logf("rank 8: LoRA %.4f, Dual LoRA healed as long as it was trained %.4f", lora.ValLoss, healed); !(healed <= lora.ValLoss) {
		t.Errorf("healed to rank 8, with as many tokens, the loss is %.4f, a LoRA's %.4f, want no more", healed, lora.ValLoss)
	}
	for _, typ := range []gguf.Type{gguf.TypeQ8_0, gguf.TypeF16} {
		s := results[part{"dual-lora", typ}]
		if !near.Enough(s.BaseValLoss, whole.BaseValLoss, baseByType) || !near.Enough(s.ValLoss, whole.ValLoss, finalByType) {
			t.Errorf("%s: %.4f → %.4f, F32 %.4f → %.4f, want within %.2f and %.2f", typ, s.BaseValLoss, s.ValLoss,
				whole.BaseValLoss, whole.ValLoss, baseByType, finalByType)
		}
	}
}

// exportsKeepWhatWasLearned exports one run exactly, healed to its own rank, then projected to several sizes, all measured
// by llama.cpp. asLong receives the loss of an export that was healed for as many steps as the run had.
func exportsKeepWhatWasLearned(t *testing.T, c run.Config, s *trainer.Summary, asLong *eval.Loss) {
	x := &exporter{Config: DefaultConfig(), exact: maxExactBytes, say: func(string) {}}
	x.Config.Run, x.Threads = c.Out, 1
	defer func() {
		if err := x.close(); err != nil {
			t.Error(err)
		}
	}()
	ctx := context.Background()
	if err := errors.Join(x.open(ctx), x.measureEnds(ctx)); err != nil {
		t.Fatal(err)
	}
	exact, err := x.measured(ctx, candidate{}, x.writeExact)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("llama.cpp: %.4f → %.4f, exact export %.4f", x.result.BaseLoss, x.result.DualLoss, exact.loss)
	if !near.Within(x.result.BaseLoss, s.BaseValLoss, sameLossTolerance) {
		t.Errorf("loss of the base by llama.cpp %.5f, by the trainer %.5f", x.result.BaseLoss, s.BaseValLoss)
	}
	if !near.Enough(exact.loss, s.ValLoss, exactLoss) {
		t.Errorf("loss of the exact export %.4f, by the trainer %.4f", exact.loss, s.ValLoss)
	}
	healed := heal(t, x, 0)
	if t.Logf("healed, rank %d: %.4f, keeps %.4f", c.Rank, healed.loss, healed.retention); !(healed.retention >= healedShare) {
		t.Errorf("healed: keeps %.4f, want at least %.2f", healed.retention, healedShare)
	}
	*asLong = heal(t, x, c.Steps).loss
	own := x.adapter.Parameters()
	d, err := adapter.Decompose(ctx, x.adapter, adapter.DecomposeOptions{Budget: 4 * own, Inputs: x.inputs, Outputs: x.outputs, Seed: c.Seed})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range retained {
		low, err := x.budget(ctx, d, float64(tt.times))
		if err != nil {
			t.Fatal(err)
		}
		n := low.low.Parameters()
		t.Logf("%d times the parameters (%d of %d): %.4f, keeps %.4f", tt.times, n, own, low.loss, low.retention)
		if n > tt.times*own || !(float64(low.retention) >= tt.share) {
			t.Errorf("%d times the parameters (%d): keeps %.4f, want at least %.2f", tt.times, n, low.retention, tt.share)
		}
	}
}

// heal exports a run at its own rank, healed.
func heal(t *testing.T, x *exporter, steps int) candidate {
	t.Helper()
	y := *x
	y.Mode, y.Rank, y.HealSteps = ModeHeal, x.run.Rank, steps
	y.healer = y.newHealer()
	c, err := y.shape(context.Background())
	if err := errors.Join(err, y.healer.close()); err != nil {
		t.Fatal(err)
	}
	return c
}
