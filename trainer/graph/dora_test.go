package graph

import (
	"math"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/quant"
)

// still knows what gradients take for constants though it moves with the factors: the lengths of a DoRA's rows, by weight.
type still map[string]*rows

// rows are those of V = W + s·B·A of one weight, and their lengths before anything moves.
type rows struct {
	*adapter.DoRA
	w       []float32 // [n_in, n_out]
	lengths []float64
}

func newStill(t *testing.T, path string, weights []adapter.Weight) still {
	t.Helper()
	all := still{}
	for _, w := range weights {
		if d, ok := w.Factors.(*adapter.DoRA); ok {
			r := &rows{DoRA: d, w: weightOf(t, path, w.Name)}
			r.lengths = r.now()
			all[w.Name] = r
		}
	}
	return all
}

// weightOf is a weight of a model file.
func weightOf(t *testing.T, path, name string) []float32 {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tensor, _ := f.Tensor(name)
	data, err := f.Data(name)
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, tensor.Elements())
	if err := quant.Decode(tensor.Type, data, v); err != nil {
		t.Fatal(err)
	}
	return v
}

// now are the lengths in float64, entry by entry.
func (r *rows) now() []float64 {
	nIn, nOut := r.Shape()
	lengths := make([]float64, nOut)
	for o := range nOut {
		for i := range nIn {
			v := float64(r.w[o*nIn+i])
			for k := range r.Rank() {
				v += float64(r.Scale()) * float64(r.B.Row(o)[k]) * float64(r.A.Row(k)[i])
			}
			lengths[o] += v * v
		}
		lengths[o] = math.Sqrt(lengths[o])
	}
	return lengths
}

// lengthsOf holds M/‖V‖ of a param's weight still after the param has moved, by moving M with ‖V‖. The result undoes that.
func (s still) lengthsOf(param string) func() {
	dot := strings.LastIndexByte(param, '.')
	r, ok := s[param[:dot]]
	if !ok || strings.HasSuffix(param, ".dora_m") {
		return func() {}
	}
	old := append([]float32(nil), r.M.Data...)
	for o, length := range r.now() {
		r.M.Data[o] = float32(float64(old[o]) * length / r.lengths[o])
	}
	return func() { copy(r.M.Data, old) }
}

// exactTolerance is for two ways to the same function in float32, one of them by full-rank factors.
const exactTolerance = 1e-4

// The LoRA of full rank whose change is that of a DoRA makes the same of the model: its outputs, what is observed of the
// inputs and outputs of its weights, and so the derivatives by them.
func TestDoRAEqualsItsExactForm(t *testing.T) {
	for _, arch := range []string{"llama", "gpt2", "phi3"} {
		path := testmodel.Path(t, testmodel.Spec{Arch: arch})
		m := loadModel(t, path)
		weights := allLinear(t, path, adapter.MethodDoRA, 4)
		disturb(weights)
		shape := Shape{Ctx: 16, Seqs: 2}
		ws := windows(shape, m.Vocab().NTokens())
		got := newEngine(t, m, weights, Options{Shape: shape, Statistics: true})
		want := newEngine(t, m, exact(weights), Options{Shape: shape, Statistics: true})
		var losses [2]float64
		for i, e := range []*Engine{got, want} {
			var err error
			if losses[i], err = e.Step(ws, 1); err != nil {
				t.Fatal(err)
			}
		}
		if !(math.Abs(losses[0]-losses[1]) <= exactTolerance*losses[1]) {
			t.Errorf("%s: loss %v, by the exact form %v", arch, losses[0], losses[1])
		}
		squares := got.Statistics()
		for name, sums := range want.Statistics() {
			if d, top := near.Farthest(squares[name], sums), near.Largest(sums); !(d <= 10*exactTolerance*top) || top == 0 {
				t.Errorf("%s: %s: squares differ by %v of %v from those by the exact form", arch, name, d, top)
			}
		}
	}
}

// exact is the change of each weight as a LoRA of full rank: ΔW times the identity.
func exact(weights []adapter.Weight) (all []adapter.Weight) {
	for _, w := range weights {
		nIn, nOut := w.Shape()
		l := &adapter.LoRA{A: adapter.NewMat(nIn, nIn), B: adapter.NewMat(nIn, nOut)}
		for i := range nIn {
			l.A.Row(i)[i] = 1
		}
		adapter.Delta(w, l.B.Data)
		all = append(all, adapter.Weight{Name: w.Name, Factors: l})
	}
	return all
}
