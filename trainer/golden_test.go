package trainer

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"finetune/gguf"
	"finetune/internal/testrun"
	"finetune/quant"
	"finetune/run"
)

// otherKernelTolerance is for the factors after two steps with sums in another order: AdamW's step is of the size of the
// learning rate, 1e-2, whatever the gradient, and its direction may turn where a gradient is nearly nothing.
const otherKernelTolerance = 1e-3

// Runs of earlier versions resume to the bytes that they would have ended with.
func TestGoldenRunsResume(t *testing.T) {
	golden := filepath.Join("testdata", "golden")
	versions, err := filepath.Glob(filepath.Join(golden, "v*"))
	if err != nil || len(versions) < 2 {
		t.Fatalf("golden runs %v, %v", versions, err)
	}
	sameMachine := addsAlike(t, golden)
	t.Logf("this machine adds as that of the golden runs did: %v", sameMachine)
	for _, version := range versions {
		for _, tt := range []struct {
			from  string
			steps int
			exact bool
		}{
			{"checkpoint-00000006.zst", 0, true},
			{"checkpoint-00000004.zst", 2, sameMachine},
		} {
			dir := filepath.Join(t.TempDir(), "run")
			if err := os.CopyFS(dir, os.DirFS(version)); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"checkpoint-00000004.zst", "checkpoint-00000006.zst"} {
				if name != tt.from {
					if err := os.Remove(filepath.Join(dir, name)); err != nil {
						t.Fatal(err)
					}
				}
			}
			c, err := run.LoadSaved(dir)
			if err != nil {
				t.Fatal(err)
			}
			c.Model, c.Data, c.Out = filepath.Join(golden, "base.gguf"), filepath.Join(golden, "train.txt"), dir
			if _, losses := mustTrain(t, c, true); len(losses) != tt.steps {
				t.Errorf("%s from %s: %d steps, want %d", version, tt.from, len(losses), tt.steps)
			}
			what := version + " from " + tt.from
			sameTensors(t, what, filepath.Join(dir, run.AdapterFile), filepath.Join(golden, run.AdapterFile), tt.exact)
			if tt.exact && !bytes.Equal(testrun.Read(t, dir, run.ImatrixFile), testrun.Read(t, golden, run.ImatrixFile)) {
				t.Errorf("%s: another %s", what, run.ImatrixFile)
			}
		}
	}
}

// addsAlike reports whether the same run from its start gives the golden adapter and importance, byte for byte: the order of
// additions depends on the processor, the compiler and the release of llama.cpp.
func addsAlike(t *testing.T, golden string) bool {
	c, err := run.LoadSaved(filepath.Join(golden, "v3"))
	if err != nil {
		t.Fatal(err)
	}
	c.Model, c.Data, c.Out = filepath.Join(golden, "base.gguf"), filepath.Join(golden, "train.txt"), filepath.Join(t.TempDir(), "run")
	mustTrain(t, c, false)
	got, want := openGGUF(t, filepath.Join(c.Out, run.AdapterFile)), openGGUF(t, filepath.Join(golden, run.AdapterFile))
	for _, tensor := range want.Tensors() {
		if !slices.Equal(tensorData(t, got, tensor.Name), tensorData(t, want, tensor.Name)) {
			return false
		}
	}
	return bytes.Equal(testrun.Read(t, c.Out, run.ImatrixFile), testrun.Read(t, golden, run.ImatrixFile))
}

// sameTensors compares the tensors of two files, and their metadata but for the version of the program.
func sameTensors(t *testing.T, what, got, want string, exact bool) {
	t.Helper()
	g, w := openGGUF(t, got), openGGUF(t, want)
	if len(g.Tensors()) != len(w.Tensors()) {
		t.Fatalf("%s: %d tensors, want %d", what, len(g.Tensors()), len(w.Tensors()))
	}
	for _, tensor := range w.Tensors() {
		a, b := tensorData(t, g, tensor.Name), tensorData(t, w, tensor.Name)
		if exact && !slices.Equal(a, b) {
			t.Errorf("%s: %q has other values", what, tensor.Name)
		}
		for i := range b {
			if !(math.Abs(float64(a[i]-b[i])) <= otherKernelTolerance) {
				t.Fatalf("%s: %q: element %d is %v, want %v", what, tensor.Name, i, a[i], b[i])
			}
		}
	}
	for _, kv := range w.KVs() {
		if value, ok := g.Get(kv.Key); !ok || kv.Key != "finetune.version" && value != kv.Value {
			t.Errorf("%s: %s is %v, want %v", what, kv.Key, value, kv.Value)
		}
	}
}

func openGGUF(t *testing.T, path string) *gguf.File {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func tensorData(t *testing.T, f *gguf.File, name string) []float32 {
	t.Helper()
	tensor, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("%q: no tensor %q", f.Path(), name)
	}
	raw, err := f.Data(name)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float32, tensor.Elements())
	if err := quant.Decode(tensor.Type, raw, out); err != nil {
		t.Fatal(err)
	}
	return out
}
