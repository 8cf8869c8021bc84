package trainer

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// shared is a file of ../shared/data, beside the repository; the test is skipped where it is missing.
func shared(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "shared", "data", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no %s here", path)
	}
	return path
}

// shakespeare is the run that the losses of this file's tests belong to.
func shakespeare(t *testing.T, model, method string) Config {
	c := DefaultConfig()
	c.Model = shared(t, "models/"+model)
	c.Data = shared(t, "text/tinyshakespeare.txt")
	c.Out = filepath.Join(t.TempDir(), "run")
	c.Method, c.Rank, c.Ctx, c.Batch, c.Steps, c.LR = method, 8, 128, 4, 200, 1e-2
	c.Alpha, c.Threads = 16, 1
	if method == "dual-lora" {
		c.Alpha = 8 // s = alpha/r1 = 2, as for LoRA
	}
	return c
}

func TestTrainsShakespeare(t *testing.T) {
	for _, test := range []struct {
		model, method string
		base, want    float64
	}{
		{"stories260K-f32.gguf", "dual-lora", 5.27, 3.10},
		{"stories260K-f32.gguf", "lora", 5.27, 3.05},
	} {
		t.Run(test.method+" "+test.model, func(t *testing.T) {
			s, err := Train(context.Background(), shakespeare(t, test.model, test.method), false, func(e Event) {
				if e.Kind != "step" || e.Step%50 == 0 {
					t.Logf("%s %d %v %.0f/s %v", e.Kind, e.Step, e.Loss, e.RawPerSecond, e.SecondsLeft)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if d := float64(s.BaseValLoss) - test.base; d > 0.01 || d < -0.01 {
				t.Errorf("base validation loss %.4f, want %.2f", s.BaseValLoss, test.base)
			}
			if float64(s.ValLoss) > test.want {
				t.Errorf("validation loss %.4f, want at most %.2f", s.ValLoss, test.want)
			}
			t.Logf("%+v", *s)
		})
	}
}

func TestExport(t *testing.T) {
	c := shakespeare(t, "stories260K-f32.gguf", "dual-lora")
	s, err := Train(context.Background(), c, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{ModeExact, ModeProject} {
		x := DefaultExportConfig()
		x.Run, x.Out, x.Mode = c.Out, filepath.Join(t.TempDir(), "out.gguf"), mode
		r, err := Export(context.Background(), x, func(s string) { t.Log(s) })
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("val %v %+v", s.ValLoss, r)
	}
}
