package merge

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"finetune/adapter"
	"finetune/internal/near"
	"finetune/internal/testmodel"
	"finetune/model"
	"finetune/quant"
)

// dora writes a DoRA over a base's targets: fresh, or as training might leave it, its directions turned and its rows up
// to some ten per cent longer or shorter. The result is bound to the base.
func dora(t *testing.T, base, targets string, fresh bool) (string, *adapter.Adapter) {
	t.Helper()
	f, err := model.OpenParts(base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	id, err := f.Identity()
	if err != nil {
		t.Fatal(err)
	}
	chosen, err := adapter.ParseTargets(targets)
	if err != nil {
		t.Fatal(err)
	}
	tensors, err := chosen.Select(f.Tensors())
	if err != nil {
		t.Fatal(err)
	}
	a, err := adapter.Build(adapter.MethodDoRA, 6, 3, tensors)
	if err != nil {
		t.Fatal(err)
	}
	a.Architecture, a.BaseName, a.BaseHash = id.Architecture, id.Name, id.Hash
	if err := a.Bind(f.File, quant.Decode); err != nil {
		t.Fatal(err)
	}
	a.Init(1)
	rng := rand.New(rand.NewPCG(5, 1))
	for _, w := range a.Weights {
		d := w.Factors.(*adapter.DoRA)
		for i := range d.B.Data {
			if !fresh {
				d.B.Data[i] = float32(0.2 * rng.NormFloat64())
			}
		}
		for i := range d.M.Data {
			if !fresh {
				d.M.Data[i] *= float32(1 + 0.1*rng.NormFloat64())
			}
		}
	}
	path := filepath.Join(t.TempDir(), "dora.gguf")
	if err := a.Save(path); err != nil {
		t.Fatal(err)
	}
	return path, a
}

// meantBy is W' = M ⊙ V/‖V‖ with V = W + s·B·A, in float64 and entry by entry.
func meantBy(d *adapter.DoRA, w []float32) []float64 {
	nIn, nOut := d.Shape()
	meant := make([]float64, nIn*nOut)
	for o := range nOut {
		length := 0.0
		row := meant[o*nIn : (o+1)*nIn]
		for i := range row {
			row[i] = float64(w[o*nIn+i])
			for k := range d.Rank() {
				row[i] += float64(d.Scale()) * float64(d.B.Row(o)[k]) * float64(d.A.Row(k)[i])
			}
			length += row[i] * row[i]
		}
		for i := range row {
			row[i] *= float64(d.M.Data[o]) / math.Sqrt(length)
		}
	}
	return meant
}

// A merged DoRA is W' itself, with other adapters what they add, and speaks as its exact form beside the base does.
func TestDoRAIsMerged(t *testing.T) {
	base := testmodel.Path(t, wide)
	path, a := dora(t, base, "all-linear", false)
	lora := Adapter{random(t, base, adapter.MethodLoRA, "attn_q|ffn_up", 0.3, 3), -0.5}
	for _, adapters := range [][]Adapter{{{path, 1}}, {{path, 0.5}, lora}} {
		out := filepath.Join(t.TempDir(), "out.gguf")
		mustMerge(t, Config{Model: base, Adapters: adapters, Out: out})
		before, after := openModel(t, base), openModel(t, out)
		for _, weight := range a.Weights {
			w, got := floats(t, before, weight.Name), floats(t, after, weight.Name)
			meant, size := meantBy(weight.Factors.(*adapter.DoRA), w), rms(w)
			added := deltaOf(t, weight.Name, adapters[1:])
			for i := range w {
				want := float64(w[i]) + float64(adapters[0].Scale)*(meant[i]-float64(w[i]))
				if added != nil {
					want += added[i]
				}
				if !near.Enough(got[i], want, 10*rounding*size) {
					t.Fatalf("%s: element %d is %v, want %v", weight.Name, i, got[i], want)
				}
			}
		}
		if len(adapters) > 1 {
			continue
		}
		exact := filepath.Join(t.TempDir(), "exact.gguf")
		if err := a.WriteExact(exact, adapter.LoRAOptions{}); err != nil {
			t.Fatal(err)
		}
		want := logits(t, base, Adapter{exact, 1})
		if d := distance(logits(t, out), want); !(d <= logitRounding*rms(want)) {
			t.Errorf("logits differ by %v of %v", d, rms(want))
		}
		if d := distance(logits(t, base), want); !(d >= 0.05*rms(want)) {
			t.Errorf("the adapter moves the logits by %v of %v only: nothing is shown", d, rms(want))
		}
	}
}

// A fresh DoRA changes nothing: over a quantized base every byte stays.
func TestFreshDoRAChangesNoByte(t *testing.T) {
	base := quantized(t, "q4_k_m")
	path, _ := dora(t, base, "all-linear", true)
	out := filepath.Join(t.TempDir(), "out.gguf")
	r := mustMerge(t, Config{Model: base, Adapters: []Adapter{{path, 1}}, Out: out})
	if !sameBytes(t, base, out) || len(r.Tensors) == 0 {
		t.Errorf("%d tensors merged, and the file differs from the base", len(r.Tensors))
	}
}
