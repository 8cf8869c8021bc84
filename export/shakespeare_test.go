package export

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"finetune/adapter"
	"finetune/eval"
	"finetune/internal/near"
	"finetune/internal/testrun"
	"finetune/internal/testrun/trained"
	"finetune/run"
	"finetune/trainer"
)

// The figures of a real run: a model of children's stories learns Shakespeare. The bounds leave 0.08 nats above what was
// seen, for another order of additions on another machine.
const (
	baseLoss     = 5.27
	dualLoss     = 3.10
	loraLoss     = 3.05
	fullLoss     = 2.92
	baseRounding = 0.01 // of the figure above
	baseByType   = 0.02 // between the types of the base file
	finalByType  = 0.03 // likewise, after training
	exactLoss    = 0.01 // between the trainer and llama.cpp with the exact export
	healedShare  = 0.97 // of the gain that healing for a quarter of the steps has to keep, at the adapter's own rank
)

// retained is what projections of so many times the adapter's own parameters have to keep.
var retained = []struct {
	times int
	share float64
}{{1, 0.85}, {2, 0.95}, {4, 0.98}}

// shakespeare is the run that the figures belong to.
func shakespeare(t *testing.T, model, method string) run.Config {
	if testing.Short() {
		t.Skip("trains for a quarter of a minute")
	}
	c := run.DefaultsOf(method)
	c.Model = testrun.Shared(t, "models/"+model)
	c.Data = testrun.Shared(t, "text/tinyshakespeare.txt")
	c.Out = filepath.Join(t.TempDir(), "run")
	c.Ctx, c.Batch, c.Steps, c.Threads = 128, 4, 200, 1
	if method == run.MethodFull {
		return c
	}
	c.Rank, c.Alpha, c.LR = 8, 16, 1e-2
	if method == "dual-lora" {
		c.Alpha = 8 // s = alpha/r1 = 2, as for LoRA
	}
	return c
}

func TestLearnsShakespeare(t *testing.T) {
	results := map[string]*trainer.Summary{}
	var healed eval.Loss
	t.Run("runs", func(t *testing.T) { // ends when the parallel ones have
		for _, tt := range []struct {
			model, method string
			want          float64
		}{
			{"stories260K-f32.gguf", "dual-lora", dualLoss},
			{"stories260K-f32.gguf", "lora", loraLoss},
			{"stories260K-f32.gguf", "full", fullLoss},
			{"stories260K-f16.gguf", "full", fullLoss + finalByType},
			{"stories260K-q8_0.gguf", "dual-lora", dualLoss + finalByType},
			{"stories260K-f16.gguf", "dual-lora", dualLoss + finalByType},
		} {
			name := tt.method + " " + tt.model
			c := shakespeare(t, tt.model, tt.method)
			s := new(trainer.Summary)
			results[name] = s
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				got := trained.Run(t, c)
				*s = *got
				t.Logf("%s: %.4f → %.4f, %.0f tokens/s", name, s.BaseValLoss, s.ValLoss, s.TrainedRate)
				if !near.Enough(s.BaseValLoss, baseLoss, baseRounding+baseByType) {
					t.Errorf("validation loss of the base is %.4f, want %.2f", s.BaseValLoss, baseLoss)
				}
				if !(float64(s.ValLoss) <= tt.want) {
					t.Errorf("validation loss is %.4f, want at most %.2f", s.ValLoss, tt.want)
				}
				if tt.method == "dual-lora" && tt.model == "stories260K-f32.gguf" {
					exportsKeepWhatWasLearned(t, c, s, &healed)
				}
			})
		}
	})
	whole := results["dual-lora stories260K-f32.gguf"]
	if whole == nil || t.Failed() {
		return
	}
	if !near.Enough(whole.BaseValLoss, baseLoss, baseRounding) {
		t.Errorf("validation loss of the base in F32 is %.4f, want %.2f", whole.BaseValLoss, baseLoss)
	}
	lora, full := results["lora stories260K-f32.gguf"], results["full stories260K-f32.gguf"]
	if !(full.ValLoss < lora.ValLoss) || full.TrainedTokens != lora.TrainedTokens {
		t.Errorf("trained whole the loss is %.4f after %d tokens, with LoRA %.4f after %d, want less after as many",
			full.ValLoss, full.TrainedTokens, lora.ValLoss, lora.TrainedTokens)
	}
	if t.Logf("rank 8: LoRA %.4f, Dual LoRA healed as long as it was trained %.4f", lora.ValLoss, healed); !(healed <= lora.ValLoss) {
		t.Errorf("healed to rank 8, with as many tokens, the loss is %.4f, a LoRA's %.4f, want no more", healed, lora.ValLoss)
	}
	for _, name := range []string{"dual-lora stories260K-q8_0.gguf", "dual-lora stories260K-f16.gguf"} {
		s := results[name]
		if !near.Enough(s.BaseValLoss, whole.BaseValLoss, baseByType) || !near.Enough(s.ValLoss, whole.ValLoss, finalByType) {
			t.Errorf("%s: %.4f → %.4f, F32 %.4f → %.4f, want within %.2f and %.2f", name, s.BaseValLoss, s.ValLoss,
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
	if err := errors.Join(x.open(), x.measureEnds(ctx)); err != nil {
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
