package graph

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/internal/testmodel"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Along its gradient the loss of a whole model changes by h·|g|: differences of float32 losses, curvature and the kinks
// of ReLU leave 5 % at most; a wrong derivative has nothing to do with it.
const directionTolerance = 0.05

// lossStep is how much the loss, summed over some 50 tokens, is moved to either side: far above its rounding (1e-5), and
// small against the loss itself.
const lossStep = 0.004

// checkModel compares the gradient of every factor with the change of the loss along it.
func checkModel(t *testing.T, path string, method adapter.Method, keepAll bool) {
	m := loadModel(t, path)
	weights := allLinear(t, path, method, 4)
	disturb(weights)
	shape := Shape{Ctx: 16, Seqs: 2}
	ws := windows(shape, m.Vocab().NTokens())
	e := newEngine(t, m, weights, Options{Shape: shape, KeepAll: keepAll})
	if names := e.Unreached(); len(names) > 0 {
		t.Fatalf("no gradient reaches %v", names)
	}
	e.Reset()
	if _, err := e.Step(ws, 1); err != nil {
		t.Fatal(err)
	}
	for i, f := range e.factors {
		if strings.HasSuffix(f.name, ".dual_c") || strings.HasSuffix(f.name, ".dual_d") {
			continue // sign has no useful derivative: TestTermEqualsPlainGo holds the rule against its surrogate
		}
		g := e.Gradients()[i].Data
		norm := math.Sqrt(dot(g, g))
		if norm == 0 {
			t.Errorf("%s: the gradient is zero", f.name)
			continue
		}
		h := lossStep / norm
		up, down := lossAt(t, e, f, g, h/norm, ws), lossAt(t, e, f, g, -h/norm, ws)
		if ratio := (up - down) / (2 * h * norm); math.Abs(ratio-1) > directionTolerance {
			t.Errorf("%s: the loss changes %.4f times as much as the gradient says (|g| = %.3g)", f.name, ratio, norm)
		}
	}
}

// lossAt is the loss with step·g added to the factor.
func lossAt(t *testing.T, e *Engine, f factor, g []float32, step float64, ws []data.Window) float64 {
	t.Helper()
	old := append([]float32(nil), f.mat.Data...)
	for i := range g {
		f.mat.Data[i] += float32(step * float64(g[i]))
	}
	e.Upload()
	loss, err := e.Loss(ws)
	if err != nil {
		t.Fatal(err)
	}
	copy(f.mat.Data, old)
	e.Upload()
	return loss
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func TestGradientsOfTrainedModel(t *testing.T) {
	for _, method := range []adapter.Method{adapter.MethodLoRA, adapter.MethodDual} {
		for _, keepAll := range []bool{false, true} {
			checkModel(t, shared(t, "models/stories260K-f32.gguf"), method, keepAll)
		}
	}
}

// The native form of a term and the plain-Go one sum in another order, the latter in float64.
const termTolerance = 1e-5

func TestTermEqualsPlainGo(t *testing.T) {
	const nIn, nOut, tokens = 24, 20, 7
	for _, method := range []adapter.Method{adapter.MethodLoRA, adapter.MethodDual} {
		for _, native := range []bool{false, true} {
		f, err := adapter.New(method, nIn, nOut, 6, 9)
		if err != nil {
			t.Fatal(err)
		}
		f.Init(3, "w")
		disturb([]adapter.Weight{{Name: "w", Factors: f}})
		w, x, dy := noise(nIn*nOut, 1), noise(nIn*tokens, 2), noise(nOut*tokens, 3)
		y, dx, grads := nativeTerm(t, f, w, x, dy, tokens)

		mat := func(n, m int, v []float32) adapter.Mat { return adapter.Mat{NE: [2]int{n, m}, Data: v} }
		compare(t, string(method)+" y", y, adapter.Forward(f, mat(nIn, nOut, w), mat(nIn, tokens, x)).Data)
		wantDX, wantGrads := adapter.Backward(f, mat(nIn, nOut, w), mat(nIn, tokens, x), mat(nOut, tokens, dy))
		compare(t, string(method)+" dx", dx, wantDX.Data)
		for i, g := range wantGrads {
			compare(t, string(method)+" d"+f.Mats()[i].Suffix, grads[i], g.Data)
		}
	}
}

func compare(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	if d, top := largestDifference(got, want), largest(want); top == 0 || d > termTolerance*top {
		t.Errorf("%s differs by %v of %v", what, d, top)
	}
}

// nativeTerm runs a term alone on the CPU.
func nativeTerm(t *testing.T, f adapter.Factors, w, x, dy []float32, tokens int) (y, dx []float32, grads [][]float32) {
	t.Helper()
	cpu, err := ggml.NewCPU(2)
	if err != nil {
		t.Fatal(err)
	}
	defer cpu.Close()
	c, err := ggml.NewContext(256, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	nIn, nOut := f.Shape()
	leaf := func(v []float32, ne ...int64) ggml.Tensor { return c.NewTensor(ggml.F32, ne...).SetInput() }
	lw := leaf(w, int64(nIn), int64(nOut))
	lx := leaf(x, int64(nIn), int64(tokens))
	ldy := leaf(dy, int64(nOut), int64(tokens))
	var mats []ggml.Tensor
	for _, m := range f.Mats() {
		mats = append(mats, leaf(m.Mat.Data, int64(m.Mat.NE[0]), int64(m.Mat.NE[1])))
	}
	term := products{native: native}.newTerm(f, mats)
	out := []ggml.Tensor{term.forward(c, lw, lx)}
	back, back0 := term.backward(c, lw, lx, ldy, true)
	out = append(append(out, back0), back...)
	g := c.NewGraph(256)
	for _, o := range out {
		g.Expand(o.SetOutput())
	}
	alloc, err := cpu.Allocate(g)
	if err != nil {
		t.Fatal(err)
	}
	defer alloc.Close()
	lw.SetFloats(w)
	lx.SetFloats(x)
	ldy.SetFloats(dy)
	for i, m := range f.Mats() {
		mats[i].SetFloats(m.Mat.Data)
	}
	if err := cpu.Compute(g); err != nil {
		t.Fatal(err)
	}
	var got [][]float32
	for _, o := range out {
		got = append(got, append([]float32(nil), o.Floats()...))
	}
	return got[0], got[1], got[2:]
}

// Architectures by the way their blocks differ: fused or separate projections, biases, norms of q and k, tied heads.
func TestGradientsOfTinyModels(t *testing.T) {
	for _, arch := range testmodel.Architectures() {
		for _, tied := range []bool{false, true} {
			for _, method := range []adapter.Method{adapter.MethodLoRA, adapter.MethodDual} {
				t.Run(fmt.Sprintf("%s tied=%v %s", arch, tied, method), func(t *testing.T) {
					path := testmodel.Path(t, testmodel.Spec{Arch: arch, Tied: tied})
					checkModel(t, path, method, tied)
				})
			}
		}
	}
}
