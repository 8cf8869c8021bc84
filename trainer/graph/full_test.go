package graph

import (
	"fmt"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/quant"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// readMasters are copies of all tensors of a model file but the constants of the rotation.
func readMasters(t *testing.T, path string) (masters []Master) {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tensor := range f.Tensors() {
		if strings.HasPrefix(tensor.Name, "rope_") {
			continue
		}
		raw, err := f.Data(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		m := Master{Name: tensor.Name, Shape: tensor.Shape, Data: make([]float32, tensor.Elements())}
		if err := quant.Decode(tensor.Type, raw, m.Data); err != nil {
			t.Fatal(err)
		}
		masters = append(masters, m)
	}
	return masters
}

func newFull(t *testing.T, m *llama.Model, masters []Master, o Options) *Engine {
	t.Helper()
	e, err := newFullReady(m, masters, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// checkWhole compares the gradient of every tensor of a model with the change of the loss along it.
func checkWhole(t *testing.T, path string, keepAll, reference bool) {
	t.Helper()
	m := loadModel(t, path)
	shape := Shape{Ctx: 16, Seqs: 2}
	e := newFull(t, m, readMasters(t, path), Options{Shape: shape, Threads: 1, keepAll: keepAll, reference: reference})
	if names := e.Unreached(); len(names) > 0 {
		t.Fatalf("no gradient reaches %v", names)
	}
	makeSmooth(t, tableNodes(e))
	checkDirections(t, e, windows(shape, m.Vocab().NTokens()), lossStep, nil)
}

func TestGradientsOfWholeTinyModels(t *testing.T) {
	specs := []testmodel.Spec{{Arch: "llama", Tied: true}, {Arch: "gpt2", Tied: true}}
	for _, arch := range testmodel.Architectures() {
		specs = append(specs, tinySpec(arch))
	}
	for _, spec := range specs {
		path := testmodel.Path(t, spec)
		for _, keepAll := range []bool{false, true} {
			for _, reference := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s tied=%v keepAll=%v reference=%v", spec.Arch, spec.Tied, keepAll, reference), func(t *testing.T) {
					checkWhole(t, path, keepAll, reference)
				})
			}
		}
	}
}

func TestGradientsOfWholeTrainedModel(t *testing.T) {
	onTrained(t, func(t *testing.T, path string) {
		checkWhole(t, path, false, false)
	})
}

func TestGradientsOfWholeVariants(t *testing.T) {
	for _, v := range variants() {
		t.Run(v.Name, func(t *testing.T) { checkWhole(t, writeVariant(t, v), false, false) })
	}
}

// typeTolerance is by the type of the base: for F16 and BF16 llama.cpp rounds activations to eleven and eight bits before it
// multiplies, which the engine does not.
var typeTolerance = map[gguf.Type]float64{gguf.TypeF32: logitsTolerance, gguf.TypeF16: 2e-3, gguf.TypeBF16: 2e-2}

func TestFreshMastersChangeNoLogit(t *testing.T) {
	shape := Shape{Ctx: 24, Seqs: 2}
	for _, arch := range testmodel.Architectures() {
		for typ, tolerance := range typeTolerance {
			path := testmodel.Path(t, testmodel.Spec{Arch: arch, Ctx: 32, Type: typ})
			m := loadModel(t, path)
			ws := windows(shape, m.Vocab().NTokens())
			want, err := newEngine(t, m, nil, Options{Shape: shape, Threads: 1}).logits(ws)
			if err != nil {
				t.Fatal(err)
			}
			got, err := newFull(t, m, readMasters(t, path), Options{Shape: shape, Threads: 1}).logits(ws)
			if err != nil {
				t.Fatal(err)
			}
			if d := near.Farthest(got, want); d != 0 {
				t.Errorf("%s in %s: fresh masters change a logit by %v", arch, typ, d)
			}
			llama := decode(t, m, shape, ws)
			if d := near.Share(got, llama); d > tolerance {
				t.Errorf("%s in %s: logits differ by %v of the largest from llama.cpp's, want within %v", arch, typ, d, tolerance)
			} else {
				t.Logf("%s in %s: logits differ by %.2g of the largest from llama.cpp's", arch, typ, d)
			}
		}
	}
}

func TestWholeModelByKernelsEqualsReferenceGraph(t *testing.T) {
	onTrained(t, wholeByKernelsEqualsReference)
}

func wholeByKernelsEqualsReference(t *testing.T, path string) {
	m := loadModel(t, path)
	run := func(o Options) (float64, []Gradient) {
		o.Shape, o.Threads = Shape{Ctx: 32, Seqs: 2}, max(1, o.Threads)
		e := newFull(t, m, readMasters(t, path), o)
		loss, err := e.Step(windows(o.Shape, m.Vocab().NTokens()), 1)
		if err != nil {
			t.Fatal(err)
		}
		return loss, e.Gradients()
	}
	wantLoss, want := run(Options{reference: true})
	for _, o := range []Options{{}, {Threads: 2}, {recompute: recomputeNothing}, {recompute: 3}, {recompute: recomputeAll}} {
		loss, got := run(o)
		if !near.Enough(loss, wantLoss, kernelTolerance*wantLoss) {
			t.Errorf("%+v: loss %v, reference %v", o, loss, wantLoss)
		}
		for i := range want {
			if d := near.Share(got[i].Data, want[i].Data); d > kernelTolerance {
				t.Errorf("%+v: the gradient of %s differs by %v of its largest element", o, want[i].Name, d)
			}
		}
	}
}
