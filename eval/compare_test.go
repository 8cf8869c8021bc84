package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"finetune/adapter"
	"finetune/adapter/fileops"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/internal/testrun"
	"finetune/model"
	"finetune/run"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// randomLoRA writes a LoRA over all linear weights of a base, large enough to change every prediction.
func randomLoRA(t *testing.T, path string, seed uint64, rank int, alpha float32) string {
	t.Helper()
	f, err := model.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	base, err := f.Identity()
	if err != nil {
		t.Fatal(err)
	}
	targets, err := adapter.ParseTargets(adapter.TargetsLinear)
	if err != nil {
		t.Fatal(err)
	}
	tensors, err := targets.Select(base.Tensors)
	if err != nil {
		t.Fatal(err)
	}
	a, err := adapter.Build(adapter.MethodLoRA, rank, alpha, tensors)
	if err != nil {
		t.Fatal(err)
	}
	a.Architecture, a.BaseName, a.BaseHash = base.Architecture, base.Name, base.Hash
	rng := rand.New(rand.NewPCG(seed, 5))
	for _, m := range a.Tensors() {
		for i := range m.Mat.Data {
			m.Mat.Data[i] = float32(0.2 * rng.NormFloat64())
		}
	}
	out := filepath.Join(t.TempDir(), "lora.gguf")
	if err := a.WriteLoRA(out, adapter.LoRAOptions{Type: gguf.TypeF32}); err != nil {
		t.Fatal(err)
	}
	return out
}

// withAdapters is an evaluator with adapters on it.
func withAdapters(t *testing.T, m *llama.Model, nCtx int, paths []string, scales []float32) *Evaluator {
	t.Helper()
	e := evaluator(t, m, nCtx)
	for i, path := range paths {
		detach, err := e.Attach(path, scales[i])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { detach() })
	}
	return e
}

// sumTolerance is for the same float64 numbers added up in another order.
const sumTolerance = 1e-12

// compared is a tiny model with windows, some of whose tokens count for nothing.
func compared(t *testing.T) (run.Config, *llama.Model, []data.Window) {
	t.Helper()
	c := testrun.Packed(t)
	m := testrun.Model(t, c)
	windows := windowsFor(t, m, c)
	return c, m, windows.All()
}

// Two adapters in one file do what the two do beside each other, and what is scaled does what a scale does.
func TestCombinedAdapterIsBothAttached(t *testing.T) {
	c, m, windows := compared(t)
	x, y := randomLoRA(t, c.Model, 1, 3, 6), randomLoRA(t, c.Model, 7, 5, 0)
	weights := []float32{0.8, -0.6}
	file := filepath.Join(t.TempDir(), "both.gguf")
	sources := []fileops.Source{{File: x, Weight: float64(weights[0])}, {File: y, Weight: float64(weights[1])}}
	both := lossOf(t, withAdapters(t, m, c.Ctx, []string{x, y}, weights), windows)
	for _, o := range []adapter.CombineOptions{{Method: adapter.CombineCat}, {Method: adapter.CombineLinear, Cut: adapter.Cut{Rank: 8}}} {
		if _, err := fileops.Combine(context.Background(), sources, o, fileops.Output{Out: file, Force: true}); err != nil {
			t.Fatal(err)
		}
		if got := lossOf(t, withAdapters(t, m, c.Ctx, []string{file}, []float32{1}), windows); !near.Within(got, both, sameBatchTolerance) {
			t.Errorf("%s: loss %.6f with one file, %.6f with two", o.Method, got, both)
		}
	}
	base, one := lossOf(t, evaluator(t, m, c.Ctx), windows), lossOf(t, withAdapters(t, m, c.Ctx, []string{x}, []float32{1}), windows)
	if !near.Apart(both, base, 50*sameBatchTolerance) || !near.Apart(both, one, 50*sameBatchTolerance) {
		t.Fatalf("losses %v of the base, %v with one, %v with both: too little to tell", base, one, both)
	}
	if _, err := fileops.Scale(x, 0.3, fileops.Output{Out: file, Force: true}); err != nil {
		t.Fatal(err)
	}
	want := lossOf(t, withAdapters(t, m, c.Ctx, []string{x}, []float32{0.3}), windows)
	if got := lossOf(t, withAdapters(t, m, c.Ctx, []string{file}, []float32{1}), windows); !near.Within(got, want, sameBatchTolerance) {
		t.Errorf("loss %.6f with the scaled file, %.6f with the scale", got, want)
	}
}

// The oracle decodes document after document with llama.cpp's own defaults, and does the sums in plain loops.
func TestCompareIsWhatPlainLoopsFind(t *testing.T) {
	c, m, windows := compared(t)
	x, y := randomLoRA(t, c.Model, 3, 3, 6), randomLoRA(t, c.Model, 4, 3, 6)
	ones := []float32{1}
	a, b := withAdapters(t, m, c.Ctx, []string{x}, ones), withAdapters(t, m, c.Ctx, []string{y}, ones)
	var told []int
	got, err := Compare(context.Background(), a, b, windows, func(done int) { told = append(told, done) })
	if err != nil {
		t.Fatal(err)
	}
	want := plainComparison(plainLogits(t, m, x, windows), plainLogits(t, m, y, windows), windows)
	for name, pair := range map[string][2]float64{
		"loss with A": {float64(got.LossA), want.lossA}, "loss with B": {float64(got.LossB), want.lossB}, "KL": {got.KL, want.kl},
		"agreement": {got.Agreement, want.agree}, "largest change": {got.MaxLogitChange, want.change},
	} {
		if !near.Within(pair[0], pair[1], sameLossTolerance) {
			t.Errorf("%s %v, want %v", name, pair[0], pair[1])
		}
	}
	if !(got.KL >= 0.01) || got.Agreement == 1 || got.Agreement == 0 {
		t.Fatalf("%+v: too little to tell", got)
	}
	if !near.Within(float64(got.LossA), lossOf(t, a, windows), sumTolerance) || !near.Within(float64(got.LossB), lossOf(t, b, windows), sumTolerance) {
		t.Errorf("losses %v and %v, not those of Loss", got.LossA, got.LossB)
	}
	if fmt.Sprint(told) != fmt.Sprint(countTo(len(windows))) {
		t.Errorf("progress %v, want 1 to %d", told, len(windows))
	}
}

// plainLogits are the logits of every trained token, nil for the others.
func plainLogits(t *testing.T, m *llama.Model, path string, windows []data.Window) (all [][]float32) {
	t.Helper()
	e := withAdapters(t, m, len(windows[0].Tokens), []string{path}, []float32{1})
	for _, w := range windows {
		for _, doc := range w.Documents() {
			output := make([]bool, len(doc.Tokens))
			for i, weight := range doc.LossMask {
				output[i] = weight != 0
			}
			e.ctx.ClearMemory()
			if err := e.ctx.Decode(llama.Batch{Tokens: doc.Tokens, Pos: doc.Pos, Output: output}); err != nil {
				t.Fatal(err)
			}
			for i := range doc.Tokens {
				all = append(all, append([]float32(nil), e.ctx.Logits(i)...))
			}
		}
	}
	return all
}

func plainComparison(a, b [][]float32, windows []data.Window) (sum rowComparison) {
	row := 0
	for _, w := range windows {
		for _, doc := range w.Documents() {
			for i, weight := range doc.LossMask {
				if weight != 0 {
					pa, pb := softmax(a[row]), softmax(b[row])
					r := rowComparison{lossA: -math.Log(pa[doc.Targets[i]]), lossB: -math.Log(pb[doc.Targets[i]]), change: near.Farthest(a[row], b[row])}
					for k := range pa {
						r.kl += pa[k] * math.Log(pa[k]/pb[k])
					}
					if argmax(pa) == argmax(pb) {
						r.agree = 1
					}
					sum.add(r, float64(weight)/data.TotalWeight(windows))
				}
				row++
			}
		}
	}
	return sum
}

func softmax(logits []float32) []float64 {
	p, z := make([]float64, len(logits)), 0.0
	for i, v := range logits {
		p[i] = math.Exp(float64(v))
		z += p[i]
	}
	for i := range p {
		p[i] /= z
	}
	return p
}

func argmax(p []float64) (at int) {
	for i, v := range p {
		if v > p[at] {
			at = i
		}
	}
	return at
}

// A long document is decoded in parts by both.
func TestCompareOfTheSameIsNothing(t *testing.T) {
	c := testrun.Tiny(t)
	c.Ctx, c.Batch, c.ValFraction = maxUBatch+100, 1, 0
	c.Model = testmodel.Path(t, testmodel.Spec{Layers: 1, Embd: 32, FF: 48, Ctx: c.Ctx})
	c.Data = testrun.Write(t, "train.txt", testrun.Story(200))
	m := testrun.Model(t, c)
	windows := windowsFor(t, m, c)
	x := []string{randomLoRA(t, c.Model, 5, 3, 6)}
	a, b := withAdapters(t, m, c.Ctx, x, []float32{1}), withAdapters(t, m, c.Ctx, x, []float32{1})
	r, err := Compare(context.Background(), a, b, windows.All(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.KL != 0 || r.Agreement != 1 || r.MaxLogitChange != 0 || r.LossA != r.LossB || r.Tokens == 0 {
		t.Errorf("%+v of the same twice", r)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Compare(ctx, a, b, windows.All(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Compare(context.Background(), a, b, []data.Window{data.Blank(8)}, nil); err == nil {
		t.Error("over padding alone: no error")
	}
}

// evaluator has one thread and is closed at the end of the test.
func evaluator(t testing.TB, m *llama.Model, nCtx int) *Evaluator {
	t.Helper()
	e, err := NewEvaluator(m, nCtx, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// lossOf is the evaluator's loss over windows.
func lossOf(t testing.TB, e *Evaluator, windows []data.Window) float64 {
	t.Helper()
	loss, err := e.Loss(context.Background(), windows, nil)
	if err != nil {
		t.Fatal(err)
	}
	return float64(loss)
}

// windowsFor is what eval measures by a configuration.
func windowsFor(t *testing.T, m *llama.Model, c run.Config) *data.Windows {
	t.Helper()
	train, val := testrun.Data(t, m, c)
	if val != nil {
		return val
	}
	return train
}

// countTo is 1 to n.
func countTo(n int) (steps []int) {
	for i := range n {
		steps = append(steps, i+1)
	}
	return steps
}

// sameLossTolerance is for one model's loss computed in batches of other shapes.
const sameLossTolerance = 1e-3

// sameBatchTolerance is for llama.cpp's loss when documents share a batch.
const sameBatchTolerance = 1e-4
