package graph

import (
	"fmt"
	"path/filepath"
	"testing"

	"finetune/adapter"
	"finetune/device"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/need"
	"finetune/internal/testdevice"
	"finetune/internal/testmodel"
	quantplain "finetune/quant/plain"

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
	if err := e.Collect(); err != nil {
		t.Fatal(err)
	}
	return loss, e.Gradients(), e.Statistics()
}

// checkDevice compares loss, gradients and statistics of an engine with a device with those of another.
func checkDevice(t *testing.T, what string, m *llama.Model, weights []adapter.Weight, want, got Options, tolerance float64) {
	t.Helper()
	shape := Shape{Ctx: 32, Seqs: 2}
	want.Shape, got.Shape = shape, shape
	want.exact, got.exact = true, true
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

// Every architecture can be trained on every device that is there: a node is the device's, or the CPU's where it has to be.
func TestDevicesComputeEveryNode(t *testing.T) {
	paths := map[string]string{}
	for _, arch := range testmodel.Architectures() {
		paths[arch] = testmodel.Path(t, tinySpec(arch))
	}
	unadapted := map[string][]string{}
	for _, v := range variants() {
		paths[v.Name], unadapted[v.Name] = writeVariant(t, v), v.Unadapted
	}
	for _, d := range ggml.Devices() {
		for name, path := range paths {
			m := loadModel(t, path)
			for _, method := range formulas {
				e, err := Prepare(m, adaptable(allLinear(t, path, method, 4), unadapted[name]), Options{Shape: Shape{Ctx: 16, Seqs: 2}, Threads: 1, On: device.Placement{Device: d, Layers: device.AllLayers}})
				if err != nil {
					t.Errorf("%s %s on %s: %v", name, method, d.Name(), err)
					continue
				}
				for op, n := range strays(e) {
					t.Logf("%s %s on %s: %d nodes %s are on the CPU", name, method, d.Name(), n, op)
				}
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// strays counts the operations of an engine whose layers are all on a device that are computed on the CPU. Embeddings are meant to be.
func strays(e *Engine) map[string]int {
	found := map[string]int{}
	for _, g := range []placed{e.placed, e.head.placed} {
		for i := range g.graph.Len() {
			node := g.graph.Node(i)
			if g.place(i) == onCPU && node == root(node) && !isCopy(node) && !(node.Op() == "GET_ROWS" && node.Src(0).IsWeight()) {
				found[nameOf(node)]++
			}
		}
	}
	return found
}

// quantized writes a tiny model with the types of llama.cpp's mix of that name, wide enough for blocks of 256 where it can be.
func quantized(t *testing.T, arch, mix string) string {
	t.Helper()
	var path string
	if arch == "lfm2" {
		path = variantNamed(t, arch)
	} else {
		path = testmodel.Path(t, testmodel.Spec{Arch: arch, Embd: 256, FF: 256})
	}
	if mix == "f32" {
		return path
	}
	out := filepath.Join(t.TempDir(), mix+".gguf")
	if err := llama.Quantize(path, out, mix, 1); err != nil {
		t.Fatal(err)
	}
	return out
}

// A device may multiply in half precision: each factor of a product is off by 2⁻¹¹ of it at most, and what passes through the dozens
// of products of two layers and back by some times that. Gradients that are small differences of large sums show the most of it:
// 6.5e-3 was the most on llvmpipe, of every model and method here; twice that.
const halfTolerance = 1.3e-2

// halvesTolerance is for products of factors in two halves: 2⁻²² of each, several times.
const halvesTolerance = 4e-6

// Factors in two halves have the product of whole ones where a backend rounds what it multiplies to half precision.
func TestProductInHalves(t *testing.T) {
	const n, r, m = 37, 5, 23
	a, b := noise(n*r, 1), noise(r*m, 2)
	cpu, err := ggml.NewCPU(1)
	if err != nil {
		t.Fatal(err)
	}
	defer cpu.Close()
	c, err := ggml.NewContext(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	la, lb := c.NewTensor(ggml.F32, n, r).SetInput(), c.NewTensor(ggml.F32, r, m).SetInput()
	a3, b3 := inHalves(c, la, lb)
	y := product(c, transposed(c, a3), b3).SetOutput()
	g := c.NewGraph(64)
	for _, y := range []ggml.Tensor{a3.SetOutput(), b3.SetOutput(), y} {
		g.Expand(y)
	}
	alloc, err := cpu.Allocate(g)
	if err != nil {
		t.Fatal(err)
	}
	defer alloc.Close()
	la.SetFloats(a)
	lb.SetFloats(b)
	if err := cpu.Compute(g); err != nil {
		t.Fatal(err)
	}
	want, plain, halves := multiplied(a, b, n, r, m), multiplied(rounded(a), rounded(b), n, r, m), multiplied(rounded(a3.Floats()), rounded(b3.Floats()), n, 3*r, m)
	if d := near.Share(y.Floats(), want); !(d <= halvesTolerance) {
		t.Errorf("in F32 the product in halves differs by %v of its largest element", d)
	}
	if d := near.Share(halves, want); !(d <= halvesTolerance) {
		t.Errorf("rounded, the product in halves differs by %v of its largest element", d)
	}
	if d := near.Share(plain, want); d <= 10*halvesTolerance {
		t.Errorf("rounded to half precision whole factors are off by %v only: nothing is shown", d)
	}
}

// rounded returns the numbers in half precision.
func rounded(v []float32) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = quantplain.FromHalf(quantplain.ToHalf(x))
	}
	return out
}

// multiplied returns b·a [n, m] for a [n, r] and b [r, m].
func multiplied(a, b []float32, n, r, m int) []float32 {
	y := make([]float32, n*m)
	for o := range m {
		for i := range n {
			var sum float64
			for k := range r {
				sum += float64(a[k*n+i]) * float64(b[o*r+k])
			}
			y[o*n+i] = float32(sum)
		}
	}
	return y
}

// Loss, gradients and statistics of the device named by FINETUNE_TEST_DEVICE, for every kind of weight.
func TestStepOnTheDeviceIsTheCPUs(t *testing.T) {
	on := testdevice.Placement(t, device.AllLayers)
	half := testdevice.Placement(t, 2)
	for _, arch := range []string{"llama", "qwen3", "gemma3", "lfm2"} {
		for _, mix := range []string{"f32", "f16", "q8_0", "q4_k_m"} {
			t.Run(arch+" "+mix, func(t *testing.T) {
				if arch != "llama" || mix != "q8_0" {
					need.Long(t, "compiles shaders for minutes on a GPU in software")
				}
				path := quantized(t, arch, mix)
				m := loadModel(t, path)
				for _, method := range formulas {
					weights := allLinear(t, path, method, 4)
					disturb(weights)
					checkDevice(t, string(method), m, weights, Options{}, Options{On: on}, halfTolerance)
					if method == adapter.MethodLoRA && !testing.Short() {
						checkDevice(t, "half of the layers, "+string(method), m, weights, Options{}, Options{On: half}, halfTolerance)
					}
				}
			})
		}
	}
}
