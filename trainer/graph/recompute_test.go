package graph

import (
	"fmt"
	"testing"

	"finetune/adapter"
	"finetune/internal/near"
	"finetune/internal/testmodel"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// stepOf is loss and gradients of one step of a fresh engine.
func stepOf(t *testing.T, m *llama.Model, weights []adapter.Weight, o Options) (loss float64, grads []Gradient, bytes int64) {
	t.Helper()
	o.Shape = Shape{Ctx: 32, Seqs: 2}
	e := newEngine(t, m, weights, o)
	e.Reset()
	loss, err := e.Step(windows(o.Shape, m.Vocab().NTokens()), 1)
	if err != nil {
		t.Fatal(err)
	}
	return loss, e.Gradients(), e.WorkBytes()
}

// What is recomputed comes from the same operations over the same numbers.
func TestRecomputationChangesNothingButMemory(t *testing.T) {
	paths := map[string]string{}
	// which clamp; of which much is read by every block; with a state
	for _, name := range []string{"mpt", "olmo", "gemma4", "talkie", "hrm_text", "qwen35", "lfm2"} {
		paths[name] = variantNamed(t, name)
	}
	for _, arch := range []string{"llama", "phi3", "gemma2", "gpt2", "falcon"} {
		paths[arch] = testmodel.Path(t, testmodel.Spec{Arch: arch, Layers: 4})
	}
	for arch, path := range paths {
		m := loadModel(t, path)
		for _, method := range formulas {
			weights := allLinear(t, path, method, 4)
			disturb(weights)
			wantLoss, want, most := stepOf(t, m, weights, Options{recompute: recomputeNothing})
			for _, r := range []recomputeLevel{recomputeCheap, 3, recomputeAll} {
				loss, got, bytes := stepOf(t, m, weights, Options{recompute: r})
				what := fmt.Sprintf("%s %s recompute=%d", arch, method, r)
				if loss != wantLoss {
					t.Errorf("%s: loss %v, want %v", what, loss, wantLoss)
				}
				for i := range want {
					if d := near.Farthest(got[i].Data, want[i].Data); d != 0 {
						t.Errorf("%s: the gradient of %s differs by %v", what, want[i].Name, d)
					}
				}
				if bytes >= most {
					t.Errorf("%s: %d bytes of work memory, want less than the %d of recomputing nothing", what, bytes, most)
				}
			}
		}
	}
}

// What is read by every block leaves the forward pass cut where it would be without.
func TestWhatLastsIsNoObstacleToSegments(t *testing.T) {
	for name, layers := range map[string]int{"gemma4": 4, "talkie": 2, "hrm_text": 6} {
		path := variantNamed(t, name)
		e, err := Prepare(loadModel(t, path), allLinear(t, path, adapter.MethodLoRA, 2), Options{Shape: Shape{Ctx: 16, Seqs: 2}, Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, all := e.Segments(); all < 2*layers {
			t.Errorf("%s: %d segments of %d layers, want two a layer or more", name, all, layers)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Kernels sum in another order than ggml's products, and F32 activations are rounded by neither.
const kernelTolerance = 2e-4

func TestKernelsEqualReferenceGraph(t *testing.T) {
	onTrained(t, kernelsEqualReference)
}

func kernelsEqualReference(t *testing.T, path string) {
	m := loadModel(t, path)
	for _, method := range formulas {
		weights := allLinear(t, path, method, 6)
		disturb(weights)
		wantLoss, want, _ := stepOf(t, m, weights, Options{reference: true})
		loss, got, _ := stepOf(t, m, weights, Options{})
		if !near.Enough(loss, wantLoss, kernelTolerance*wantLoss) {
			t.Errorf("%s: loss %v, reference %v", method, loss, wantLoss)
		}
		for i := range want {
			if d := near.Share(got[i].Data, want[i].Data); d > kernelTolerance {
				t.Errorf("%s: the gradient of %s differs by %v of its largest element", method, want[i].Name, d)
			}
		}
	}
}

func TestLimitIsKeptByRecomputing(t *testing.T) {
	path := testmodel.Path(t, testmodel.Spec{Layers: 8})
	m := loadModel(t, path)
	weights := allLinear(t, path, adapter.MethodLoRA, 4)
	_, _, most := stepOf(t, m, weights, Options{})
	_, _, least := stepOf(t, m, weights, Options{recompute: recomputeAll})
	limit := (most + least) / 2
	if bytes := workWithin(t, m, weights, limit); bytes > limit || bytes < least {
		t.Errorf("%d bytes of work memory, want %d to %d", bytes, least, limit)
	}
	if bytes := workWithin(t, m, weights, 1); bytes != least {
		t.Errorf("with a limit that cannot be kept %d bytes, want the least there is, %d", bytes, least)
	}
}

// workWithin is the work memory of an engine that was fitted to a limit and has taken a step.
func workWithin(t *testing.T, m *llama.Model, weights []adapter.Weight, limit int64) int64 {
	t.Helper()
	shape := Shape{Ctx: 32, Seqs: 2}
	e, err := Prepare(m, weights, Options{Shape: shape, Threads: 1})
	if e, err = ready(e, limit, err); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Step(windows(shape, m.Vocab().NTokens()), 1); err != nil {
		t.Fatal(err)
	}
	return e.WorkBytes()
}
