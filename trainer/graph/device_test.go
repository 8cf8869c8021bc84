package graph

import (
	"fmt"
	"testing"

	"finetune/adapter"
	"finetune/device"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/testdevice"
	"finetune/internal/testmodel"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/llama"
)

// cpuDevice is the CPU as a device: its graph is laid out over two backends, made of ggml's operations, and copied from one to
// the other like any. It runs everywhere.
func cpuDevice(t *testing.T) ggml.Device {
	t.Helper()
	for _, d := range ggml.Devices() {
		if d.Type() == ggml.DeviceCPU {
			return d
		}
	}
	t.Fatal("ggml has no CPU")
	return ggml.Device{}
}

// collected is the loss and the gradients of two passes, and the statistics.
func collected(t *testing.T, m *llama.Model, weights []adapter.Weight, o Options) (loss float64, grads []Gradient, statistics map[string][]float32) {
	t.Helper()
	o.Statistics = true
	e := newEngine(t, m, weights, o)
	e.Reset()
	for range 2 {
		part, err := e.Step(windows(o.Shape, m.Vocab().NTokens()), 1)
		if err != nil {
			t.Fatal(err)
		}
		loss += part
	}
	e.Collect()
	return loss, e.Gradients(), e.Statistics()
}

// checkDevice compares loss, gradients and statistics of an engine with a device with those of another.
func checkDevice(t *testing.T, what string, m *llama.Model, weights []adapter.Weight, want, got Options, tolerance float64) {
	t.Helper()
	shape := Shape{Ctx: 32, Seqs: 2}
	want.Shape, got.Shape = shape, shape
	wantLoss, wantGrads, wantSums := collected(t, m, weights, want)
	loss, grads, sums := collected(t, m, weights, got)
	if !near.Within(loss, wantLoss, tolerance) {
		t.Errorf("%s: loss %v, on the CPU %v", what, loss, wantLoss)
	}
	worst := 0.0
	for i, g := range grads {
		d := near.Share(g.Data, wantGrads[i].Data)
		if worst = max(worst, d); d > tolerance {
			t.Errorf("%s: the gradient of %s differs by %v of its largest element", what, g.Name, d)
		}
	}
	for name, sum := range sums {
		d := near.Share(sum, wantSums[name])
		if worst = max(worst, d); d > tolerance {
			t.Errorf("%s: the statistics %s differ by %v of their largest element", what, name, d)
		}
	}
	t.Logf("%s: loss differs by %.2g, gradients and statistics by %.2g", what, loss/wantLoss-1, worst)
}

// The kernels' tolerance, and what GELU's table of half-precision numbers makes of it, which turns the last bit of a sum into the
// last of eleven: of the architectures here gemma3 and gpt2 have that.
const sidesTolerance = 1e-3

// The layers of the models here, and the places where one may be cut: the whole on the device, the last half.
var cuts = map[string]int{"whole": -1, "half": 2}

func TestGraphOverTwoSidesEqualsOneSide(t *testing.T) {
	paths := map[string]string{"lfm2": variantNamed(t, "lfm2"), "qwen35": variantNamed(t, "qwen35")}
	for _, arch := range []string{"llama", "qwen3", "gemma3", "gpt2"} {
		paths[arch] = testmodel.Path(t, testmodel.Spec{Arch: arch, Layers: 2, Tied: arch != "qwen3", Type: gguf.TypeF32})
	}
	for arch, path := range paths {
		m := loadModel(t, path)
		for _, method := range formulas {
			weights := allLinear(t, path, method, 4)
			disturb(weights)
			for cut, layers := range cuts {
				on := device.Placement{Device: cpuDevice(t), Layers: layers}
				checkDevice(t, fmt.Sprintf("%s %s %s", arch, method, cut), m, weights, Options{}, Options{On: on}, sidesTolerance)
			}
		}
	}
}

func TestTmpVulkan(t *testing.T) {
	placed := testdevice.Placement(t, device.AllLayers)
	path := testmodel.Path(t, testmodel.Spec{Arch: "llama", Layers: 2, Tied: true, Type: gguf.TypeF32})
	m := loadModel(t, path)
	weights := allLinear(t, path, adapter.MethodLoRA, 4)
	disturb(weights)
	checkDevice(t, "vulkan", m, weights, Options{}, Options{On: placed}, sidesTolerance)
}
