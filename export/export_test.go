package export

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/eval"
	"finetune/gguf"
	"finetune/internal/hint"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/internal/testrun/trained"
	"finetune/internal/version"
	"finetune/model"
	"finetune/run"
	"finetune/trainer"
)

// exported exports a run, on one thread.
func exported(t *testing.T, c run.Config, change func(*Config)) (Config, *Result) {
	t.Helper()
	x := DefaultConfig()
	x.Run, x.Out, x.Threads = c.Out, filepath.Join(t.TempDir(), "out.gguf"), 1
	change(&x)
	if err := x.Validate(); err != nil {
		t.Fatal(err)
	}
	r, err := Run(context.Background(), x, nil)
	if err != nil {
		t.Fatal(err)
	}
	return x, r
}

func TestExportedFileDoesWhatTheResultSays(t *testing.T) {
	testrun.NoLeavings(t)
	for _, method := range testrun.Methods {
		c := testrun.Tiny(t)
		c.Method, c.Steps = method, 40
		s := trained.Run(t, c)
		m := testrun.Model(t, c)
		_, val := testrun.Data(t, m, c)
		e := trained.Evaluator(t, m, c.Ctx)
		for name, change := range map[string]func(*Config){
			"exact":        func(x *Config) { x.Mode = ModeExact },
			"rank 3":       func(x *Config) { x.Rank = 3 },
			"auto":         func(*Config) {},
			"auto, little": func(x *Config) { x.Retention, x.Type = 0.5, gguf.TypeF32 },
			"q8_0":         func(x *Config) { x.Mode, x.Type = ModeExact, gguf.TypeQ8_0 },
			"heal":         func(x *Config) { x.Mode, x.Rank, x.HealSteps = ModeHeal, 3, 10 },
		} {
			x, r := exported(t, c, change)
			what := method + ", " + name
			detach, err := e.Attach(x.Out, 1)
			if err != nil {
				t.Fatal(err)
			}
			if got := trained.Loss(t, e, val.All()); !near.Within(got, float64(r.ExportLoss), sameBatchTolerance) {
				t.Errorf("%s: loss with the file %.6f, the result says %.6f", what, got, r.ExportLoss)
			}
			if err := detach(); err != nil {
				t.Fatal(err)
			}
			if !near.Within(r.BaseLoss, s.BaseValLoss, sameLossTolerance) || !near.Within(r.DualLoss, s.ValLoss, sameLossTolerance) {
				t.Errorf("%s: losses %.5f → %.5f by llama.cpp, %.5f → %.5f by the trainer", what, r.BaseLoss, r.DualLoss, s.BaseValLoss, s.ValLoss)
			}
			want := (r.BaseLoss - r.ExportLoss) / (r.BaseLoss - r.DualLoss)
			if r.Retention != want {
				t.Errorf("%s: retention %v, want %v", what, r.Retention, want)
			}
			if name == "auto" && !(r.Retention >= 0.99) && len(r.Tried) < 4 || name == "auto, little" && !(r.Retention >= 0.5) {
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
func checkFile(t *testing.T, what, method string, x Config, r *Result) {
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
	base, err := model.Open(testBase(t, x))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	header, err := base.Identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.CheckBase(header); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if a.Parameters() != r.Parameters || r.File != x.Out || r.Method != method || r.RankMin < 1 || r.RankMax < r.RankMin || int64(len(testrun.Read(t, x.Out))) != r.Bytes {
		t.Errorf("%s: result %+v does not describe the file of %d parameters", what, *r, a.Parameters())
	}
	for _, w := range a.Weights {
		if x.Rank > 0 && method == "dual-lora" && w.Rank() != x.Rank {
			t.Errorf("%s: %s has rank %d, want %d", what, w.Name, w.Rank(), x.Rank)
		}
	}
}

// checkOrigin looks for the keys that say where an adapter comes from.
func checkOrigin(t *testing.T, what string, c run.Config, x Config) {
	t.Helper()
	a, err := adapter.Load(x.Out)
	if err != nil {
		t.Fatal(err)
	}
	data := model.HashText(string(testrun.Read(t, c.Data)))
	for key, want := range map[string]gguf.Value{
		adapter.KeyVersion: version.Version, adapter.KeyTrainedRank: uint32(c.Rank), adapter.KeyTrainedAlpha: float32(c.Alpha),
		adapter.KeyDataHash: data, adapter.KeyExport: x.Mode,
	} {
		if got := a.Meta[key]; got != want {
			t.Errorf("%s: %s is %v, want %v", what, key, got, want)
		}
	}
}

// testBase is the base of the run that an export was made from.
func testBase(t *testing.T, x Config) string {
	t.Helper()
	c, err := run.LoadSaved(x.Run)
	if err != nil {
		t.Fatal(err)
	}
	return c.Model
}

func TestExportWithoutValidationDataMeasuresNothing(t *testing.T) {
	c := testrun.Tiny(t)
	c.ValFraction, c.Steps = 0, 5
	trained.Run(t, c)
	for _, mode := range []string{ModeProject, ModeHeal, ModeExact} {
		x, r := exported(t, c, func(x *Config) { x.Mode = mode })
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
	testrun.NoLeavings(t)
	c := testrun.Tiny(t)
	c.Steps = 2
	interrupted := testrun.Elsewhere(t, c)
	interrupt(t, interrupted)
	trained.Run(t, c)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, tt := range map[string]struct {
		ctx    context.Context
		change func(*Config)
	}{
		"no run":          {context.Background(), func(x *Config) { x.Run = t.TempDir() }},
		"interrupted run": {context.Background(), func(x *Config) { x.Run = interrupted.Out }},
		"cancelled":       {cancelled, func(*Config) {}},
		"heal, cancelled": {cancelled, func(x *Config) { x.Mode = ModeHeal }},
		"no such folder":  {context.Background(), func(x *Config) { x.Out = filepath.Join(x.Run, "none", "out.gguf") }},
		"base is gone":    {context.Background(), func(x *Config) { x.Model = "none.gguf" }},
		"another base": {context.Background(), func(x *Config) {
			x.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: 64, Seed: 3})
		}},
	} {
		x := DefaultConfig()
		x.Run, x.Out, x.Threads = c.Out, filepath.Join(t.TempDir(), "out.gguf"), 1
		tt.change(&x)
		if _, err := Run(tt.ctx, x, nil); err == nil || testrun.Exists(x.Out) {
			t.Errorf("%s: Export = %v, file left: %v, want an error and none", name, err, testrun.Exists(x.Out))
		}
	}
}

// A run that has not kept what its inputs were like, as earlier versions made it, is projected without.
func TestExportWithoutStatistics(t *testing.T) {
	c := testrun.Tiny(t)
	c.Steps = 20
	trained.Run(t, c)
	_, with := exported(t, c, func(x *Config) { x.Rank = 2 })
	if err := os.Remove(filepath.Join(c.Out, run.ImatrixFile)); err != nil {
		t.Fatal(err)
	}
	_, without := exported(t, c, func(x *Config) { x.Rank = 2 })
	if with.ExportLoss == without.ExportLoss || !near.Within(with.Retention, without.Retention, 0.5) {
		t.Errorf("retention %v with statistics, %v without", with.Retention, without.Retention)
	}
	if err := os.WriteFile(filepath.Join(c.Out, run.ImatrixFile), []byte("no imatrix"), 0o666); err != nil {
		t.Fatal(err)
	}
	x := DefaultConfig()
	x.Run, x.Out, x.Threads = c.Out, filepath.Join(t.TempDir(), "out.gguf"), 1
	if _, err := Run(context.Background(), x, nil); err == nil || testrun.Exists(x.Out) {
		t.Errorf("Export with a damaged %s = %v, want an error", run.ImatrixFile, err)
	}
}

// The training engine measures what llama.cpp measures, where the exact form is too large for that.
func TestExportMeasuresLargeAdaptersByTheEngine(t *testing.T) {
	for _, method := range []string{"dual-lora", "dora"} {
		t.Run(method, func(t *testing.T) { measuredByBoth(t, method) })
	}
}

func measuredByBoth(t *testing.T, method string) {
	c := testrun.Tiny(t)
	c.Method, c.Steps = method, 40
	trained.Run(t, c)
	losses := map[string]eval.Loss{}
	for _, limit := range []int64{maxExactBytes, 0} {
		x := &exporter{Config: DefaultConfig(), exact: limit, say: func(string) {}}
		x.Run, x.Threads = c.Out, 1
		if err := errors.Join(x.open(context.Background()), x.measureEnds(context.Background()), x.close()); err != nil {
			t.Fatal(err)
		}
		losses[x.result.DualLossBy] = x.result.DualLoss
	}
	if len(losses) != 2 || !near.Within(losses[ByEngine], losses[ByLlama], sameLossTolerance) {
		t.Errorf("losses %v, want the same by both", losses)
	}
}

// interrupt begins a run and cancels it in its first step.
func interrupt(t *testing.T, c run.Config) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	_, err := trainer.Train(ctx, c, false, func(e trainer.Event) {
		if e.Kind == "step" {
			cancel()
		}
	})
	if !errors.Is(err, trainer.ErrInterrupted) {
		t.Fatalf("Train = %v, want ErrInterrupted", err)
	}
}

// sameLossTolerance is for llama.cpp's cache in F16 in the place of the engine's F32.
const sameLossTolerance = 1e-3

// sameBatchTolerance is for llama.cpp's loss when documents share a batch.
const sameBatchTolerance = 1e-4

func TestAdapterForAnotherBaseIsRefused(t *testing.T) {
	testrun.NoLeavings(t)
	c := testrun.Tiny(t)
	c.Steps = 1
	trained.Run(t, c)
	for name, spec := range map[string]testmodel.Spec{
		"another shape":        {Layers: 1, Embd: 64, FF: 48, Ctx: 64},
		"another architecture": {Arch: "qwen2", Layers: 1, Embd: 32, FF: 48, Ctx: 64},
		"fewer blocks":         {Layers: 2, Embd: 64, FF: 48, Ctx: 64},
		"other weights":        {Layers: 1, Embd: 32, FF: 48, Ctx: 64, Seed: 5},
	} {
		x := DefaultConfig()
		x.Run, x.Out, x.Model, x.Threads = c.Out, filepath.Join(t.TempDir(), "out.gguf"), testmodel.Path(t, spec), 1
		_, err := Run(context.Background(), x, nil)
		if err == nil || strings.Contains(err.Error(), "\n") || name == "other weights" && !errors.Is(err, adapter.ErrOtherBase) {
			t.Errorf("%s: Export = %v, want one line", name, err)
		}
		if testrun.Exists(x.Out) {
			t.Errorf("%s: Export failed and left a file", name)
		}
	}
}

func TestWholeModelHasNoAdapterToExport(t *testing.T) {
	c := testrun.By(run.MethodFull, testrun.Tiny(t))
	c.Steps = 1
	trained.Run(t, c)
	out := filepath.Join(t.TempDir(), "adapter.gguf")
	e := DefaultConfig()
	e.Run, e.Out = c.Out, out
	_, exportErr := Run(context.Background(), e, nil)
	for what, err := range map[string]error{"Export": exportErr, "CheckAdapter": run.CheckAdapter(c.Out, openBase(t, c.Model))} {
		if err == nil || !strings.Contains(err.Error(), "there is no adapter") || !strings.Contains(strings.Join(hint.Of(err), " "), run.ModelFile) {
			t.Errorf("%s = %v, hints %q, want it refused with a hint at %s", what, err, hint.Of(err), run.ModelFile)
		}
	}
	if testrun.Exists(out) {
		t.Error("a refused export leaves a file")
	}
}

// openBase opens a base until the end of the test.
func openBase(t *testing.T, path string) *model.Base {
	t.Helper()
	base, err := model.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { base.Close() })
	return base
}
