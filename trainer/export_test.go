package trainer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/internal/testmodel"
)

// exported exports a run, on one thread.
func exported(t *testing.T, c Config, change func(*ExportConfig)) (ExportConfig, *ExportResult) {
	t.Helper()
	x := DefaultExportConfig()
	x.Run, x.Out, x.Threads = c.Out, filepath.Join(t.TempDir(), "out.gguf"), 1
	change(&x)
	if err := x.Validate(); err != nil {
		t.Fatal(err)
	}
	r, err := Export(context.Background(), x, nil)
	if err != nil {
		t.Fatal(err)
	}
	return x, r
}

func TestExportedFileDoesWhatTheResultSays(t *testing.T) {
	noLeavings(t)
	for _, method := range adapterMethods {
		c := tiny(t)
		c.Method, c.Steps = method, 40
		s, _ := mustTrain(t, c, false)
		m := loaded(t, c)
		val, err := LoadValidation(m, c)
		if err != nil {
			t.Fatal(err)
		}
		e := evaluator(t, m, c.Ctx)
		for name, change := range map[string]func(*ExportConfig){
			"exact":        func(x *ExportConfig) { x.Mode = ModeExact },
			"rank 3":       func(x *ExportConfig) { x.Rank = 3 },
			"auto":         func(*ExportConfig) {},
			"auto, little": func(x *ExportConfig) { x.Retention, x.Type = 0.5, gguf.TypeF32 },
			"q8_0":         func(x *ExportConfig) { x.Mode, x.Type = ModeExact, gguf.TypeQ8_0 },
			"heal":         func(x *ExportConfig) { x.Mode, x.Rank, x.HealSteps = ModeHeal, 3, 10 },
		} {
			x, r := exported(t, c, change)
			what := method + ", " + name
			detach, err := e.Attach(x.Out, 1)
			if err != nil {
				t.Fatal(err)
			}
			if got := lossOf(t, e, val.All()); far(got, float64(r.ExportLoss), sameBatchTolerance) {
				t.Errorf("%s: loss with the file %.6f, the result says %.6f", what, got, r.ExportLoss)
			}
			if err := detach(); err != nil {
				t.Fatal(err)
			}
			if far(float64(r.BaseLoss), float64(s.BaseValLoss), sameLossTolerance) || far(float64(r.DualLoss), float64(s.ValLoss), sameLossTolerance) {
				t.Errorf("%s: losses %.5f → %.5f by llama.cpp, %.5f → %.5f by the trainer", what, r.BaseLoss, r.DualLoss, s.BaseValLoss, s.ValLoss)
			}
			want := (r.BaseLoss - r.ExportLoss) / (r.BaseLoss - r.DualLoss)
			if r.Retention != want {
				t.Errorf("%s: retention %v, want %v", what, r.Retention, want)
			}
			if name == "auto" && r.Retention < 0.99 && len(r.Tried) < 4 || name == "auto, little" && r.Retention < 0.5 {
				t.Errorf("%s: keeps %v after %+v", what, r.Retention, r.Tried)
			}
			checkFile(t, what, method, x, r)
			if r.Mode != ModeExact {
				checkOrigin(t, what, c, x)
			}
		}
	}
}

// checkFile reads an export back.
func checkFile(t *testing.T, what, method string, x ExportConfig, r *ExportResult) {
	t.Helper()
	f, err := gguf.Open(x.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for key, want := range map[string]string{"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora", adapter.KeyMethod: method} {
		if got, err := f.String(key); got != want {
			t.Errorf("%s: %s is %q, %v, want %q", what, key, got, err, want)
		}
	}
	if got, err := f.Float(adapter.KeyRetention); float32(got) != float32(r.Retention) {
		t.Errorf("%s: %s is %v, %v, want %v", what, adapter.KeyRetention, got, err, r.Retention)
	}
	if _, err := f.Float("adapter.lora.alpha"); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	a, err := adapter.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	base, err := gguf.Open(testBase(t, x))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	header, err := adapter.ReadBase(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.CheckBase(header); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if a.Parameters() != r.Parameters || r.File != x.Out || r.Method != method || r.RankMin < 1 || r.RankMax < r.RankMin || int64(len(readFile(t, x.Out))) != r.Bytes {
		t.Errorf("%s: result %+v does not describe the file of %d parameters", what, *r, a.Parameters())
	}
	for _, w := range a.Weights {
		if x.Rank > 0 && method == "dual-lora" && w.Rank() != x.Rank {
			t.Errorf("%s: %s has rank %d, want %d", what, w.Name, w.Rank(), x.Rank)
		}
	}
}

// checkOrigin looks for the keys that say where an adapter comes from.
func checkOrigin(t *testing.T, what string, c Config, x ExportConfig) {
	t.Helper()
	a, err := adapter.Load(x.Out)
	if err != nil {
		t.Fatal(err)
	}
	data, err := fileHash(c.Data)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]gguf.Value{
		adapter.KeyVersion: Version(), adapter.KeyTrainedRank: uint32(c.Rank), adapter.KeyTrainedAlpha: float32(c.Alpha),
		adapter.KeyDataHash: data, adapter.KeyExport: x.Mode,
	} {
		if got := a.Meta[key]; got != want {
			t.Errorf("%s: %s is %v, want %v", what, key, got, want)
		}
	}
}

// testBase is the base of the run that an export was made from.
func testBase(t *testing.T, x ExportConfig) string {
	t.Helper()
	c, err := LoadConfig(filepath.Join(x.Run, ConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	return c.Model
}

func TestExportWithoutValidationDataMeasuresNothing(t *testing.T) {
	c := tiny(t)
	c.ValFraction, c.Steps = 0, 5
	mustTrain(t, c, false)
	for _, mode := range []string{ModeProject, ModeHeal, ModeExact} {
		x, r := exported(t, c, func(x *ExportConfig) { x.Mode = mode })
		if r.Retention.Measured() || r.BaseLoss.Measured() || r.ExportLoss.Measured() {
			t.Errorf("%s: losses %v, %v, retention %v, want none", mode, r.BaseLoss, r.ExportLoss, r.Retention)
		}
		f, err := gguf.Open(x.Out)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := f.Get(adapter.KeyRetention); ok {
			t.Errorf("%s: %s is there", mode, adapter.KeyRetention)
		}
		f.Close()
	}
}

func TestExportThatFailsLeavesNothing(t *testing.T) {
	noLeavings(t)
	c := tiny(t)
	c.Steps = 2
	interrupted := elsewhere(t, c)
	interrupt(t, interrupted, false, 1)
	mustTrain(t, c, false)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, tt := range map[string]struct {
		ctx    context.Context
		change func(*ExportConfig)
	}{
		"no run":          {context.Background(), func(x *ExportConfig) { x.Run = t.TempDir() }},
		"interrupted run": {context.Background(), func(x *ExportConfig) { x.Run = interrupted.Out }},
		"cancelled":       {cancelled, func(*ExportConfig) {}},
		"heal, cancelled": {cancelled, func(x *ExportConfig) { x.Mode = ModeHeal }},
		"no such folder":  {context.Background(), func(x *ExportConfig) { x.Out = filepath.Join(x.Run, "none", "out.gguf") }},
		"base is gone":    {context.Background(), func(x *ExportConfig) { x.Model = "none.gguf" }},
		"another base": {context.Background(), func(x *ExportConfig) {
			x.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: 64, Seed: 3})
		}},
	} {
		x := DefaultExportConfig()
		x.Run, x.Out, x.Threads = c.Out, filepath.Join(t.TempDir(), "out.gguf"), 1
		tt.change(&x)
		if _, err := Export(tt.ctx, x, nil); err == nil || exists(x.Out) {
			t.Errorf("%s: Export = %v, file left: %v, want an error and none", name, err, exists(x.Out))
		}
	}
}

// A run that has not kept what its inputs were like, as earlier versions made it, is projected without.
func TestExportWithoutStatistics(t *testing.T) {
	c := tiny(t)
	c.Steps = 20
	mustTrain(t, c, false)
	_, with := exported(t, c, func(x *ExportConfig) { x.Rank = 2 })
	if err := os.Remove(filepath.Join(c.Out, ImatrixFile)); err != nil {
		t.Fatal(err)
	}
	_, without := exported(t, c, func(x *ExportConfig) { x.Rank = 2 })
	if with.ExportLoss == without.ExportLoss || far(float64(with.Retention), float64(without.Retention), 0.5) {
		t.Errorf("retention %v with statistics, %v without", with.Retention, without.Retention)
	}
	if err := os.WriteFile(filepath.Join(c.Out, ImatrixFile), []byte("no imatrix"), 0o666); err != nil {
		t.Fatal(err)
	}
	x := DefaultExportConfig()
	x.Run, x.Out, x.Threads = c.Out, filepath.Join(t.TempDir(), "out.gguf"), 1
	if _, err := Export(context.Background(), x, nil); err == nil || exists(x.Out) {
		t.Errorf("Export with a damaged %s = %v, want an error", ImatrixFile, err)
	}
}

// The training engine measures what llama.cpp measures, where the exact form is too large for that.
func TestExportMeasuresLargeAdaptersByTheEngine(t *testing.T) {
	for _, method := range []string{"dual-lora", "dora"} {
		t.Run(method, func(t *testing.T) { measuredByBoth(t, method) })
	}
}

func measuredByBoth(t *testing.T, method string) {
	c := tiny(t)
	c.Method, c.Steps = method, 40
	mustTrain(t, c, false)
	losses := map[string]Loss{}
	for _, limit := range []int64{mostExact, 0} {
		x := &exporter{ExportConfig: DefaultExportConfig(), exact: limit, say: func(string) {}}
		x.Run, x.Threads = c.Out, 1
		if err := errors.Join(x.open(), x.measureEnds(context.Background()), x.close()); err != nil {
			t.Fatal(err)
		}
		losses[x.result.DualLossBy] = x.result.DualLoss
	}
	if len(losses) != 2 || far(float64(losses[ByEngine]), float64(losses[ByLlama]), sameLossTolerance) {
		t.Errorf("losses %v, want the same by both", losses)
	}
}

// What is too large for llama.cpp is refused before its exact form is made.
func TestAttachRefusesAnExactFormThatIsTooLarge(t *testing.T) {
	noLeavings(t)
	c := tiny(t)
	c.Steps = 2
	mustTrain(t, c, false)
	e := evaluator(t, loaded(t, c), c.Ctx)
	a, err := adapter.Load(filepath.Join(c.Out, AdapterFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, missing := range []int64{0, 1} {
		e.exact = exactBytes(a) - missing
		detach, err := e.Attach(c.Out, 1)
		if got := errors.Is(err, ErrExactTooLarge); got != (missing > 0) || got && len(hint.Of(err)) == 0 {
			t.Errorf("%d bytes too few: Attach = %v", missing, err)
		}
		if err == nil {
			detach()
		}
	}
}
