package oracle

import (
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/adapter"
	"finetune/convert"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/merge"
	"finetune/quant"
)

// doraTolerance is what float32 makes of an element of W', as a share of the root mean square of its tensor: sums of a rank
// of 4 and a division.
const doraTolerance = 1e-5

// magnitudes makes the adapter a DoRA: a length for each row of every module, some ten per cent off that of the row of
// W + s·B·A, on all that a DoRA can be on. PEFT's own start is that length itself.
func (w *world) magnitudes() {
	for module, l := range w.loras {
		table := len(l.a) != l.rank*w.weights[module].in
		if table || strings.Contains(module, "embed") || strings.Contains(module, "wte") || strings.Contains(module, "experts") ||
			strings.HasSuffix(module, "lm_head") || strings.HasSuffix(module, "embed_out") {
			delete(w.loras, module)
			continue
		}
		sum := w.merged(module)
		l.m = random(module+" m", sum.out, 0.1)
		for i := range l.m {
			l.m[i] = (1 + l.m[i]) * float32(length(sum.v[i*sum.in:][:sum.in]))
		}
		w.loras[module] = l
	}
}

func length(row []float32) float64 {
	sum := 0.0
	for _, v := range row {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}

// rescaled is what PEFT's merge_and_unload makes of a module: m ⊙ V/‖V‖ by rows, V = W + s·B·A.
func (w *world) rescaled(module string) weight {
	sum := w.merged(module)
	for i, m := range w.loras[module].m {
		row := sum.v[i*sum.in:][:sum.in]
		factor := float64(m) / length(row)
		for j, v := range row {
			row[j] = float32(factor * float64(v))
		}
	}
	return sum
}

// For every architecture: a DoRA of PEFT, converted and merged into the GGUF, gives the weights that merging it in
// transformers and converting the model gives.
func TestDoRAMergedEqualsMergedModel(t *testing.T) {
	paths := tinyModels(t)
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		t.Run(name, func(t *testing.T) {
			w, config := newWorld(t, name, paths[name])
			w.magnitudes()
			config["use_dora"] = true
			base := w.write(t, func(module string) weight { return w.weights[module] })
			want := w.write(t, w.rescaled)
			dora := run(t, w.peft(t, config), convert.GGUF, base)
			got := filepath.Join(t.TempDir(), "merged.gguf")
			r, err := merge.Merge(t.Context(), merge.Config{Model: base, Adapters: []merge.Adapter{{Path: dora, Scale: 1}}, Out: got}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Tensors) == 0 {
				t.Fatal("nothing was merged")
			}
			for _, tensor := range r.Tensors {
				if !(tensor.Change > 0.05) {
					t.Errorf("%s: changes by %v: nothing is shown", tensor.Name, tensor.Change)
				}
			}
			sameWeights(t, got, want)
		})
	}
}

// sameWeights compares all tensors of two models in F32.
func sameWeights(t *testing.T, got, want string) {
	t.Helper()
	a, b := decoded(t, got), decoded(t, want)
	for name, w := range b {
		size := length(w) / math.Sqrt(float64(len(w)))
		if d := near.Farthest(a[name], w); !near.Enough(d, 0.0, doraTolerance*size) {
			t.Errorf("%s is off by %v, its numbers are of %v", name, d, size)
		}
	}
}

func decoded(t *testing.T, path string) map[string][]float32 {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string][]float32{}
	for _, tensor := range f.Tensors() {
		data, err := f.Data(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		all[tensor.Name] = make([]float32, tensor.Elements())
		if err := quant.Decode(tensor.Type, data, all[tensor.Name]); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// What PEFT has just started changes nothing, whatever is kept of its magnitudes in float32.
func TestFreshDoRAOfPEFTChangesNothing(t *testing.T) {
	w, config := newWorld(t, "llama", tinyModels(t)["llama"])
	for module, l := range w.loras {
		clear(l.b)
		w.loras[module] = l
	}
	w.magnitudes()
	for module, l := range w.loras {
		for i := range l.m {
			l.m[i] = float32(length(w.weights[module].v[i*w.weights[module].in:][:w.weights[module].in]))
		}
	}
	config["use_dora"] = true
	base := w.write(t, func(module string) weight { return w.weights[module] })
	file := run(t, w.peft(t, config), convert.GGUF, base)
	a, err := adapter.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := a.Bind(f, quant.Decode); err != nil {
		t.Fatal(err)
	}
	for _, weight := range a.Weights {
		if n, err := adapter.Norm(weight); err != nil || !(n <= doraTolerance) {
			t.Errorf("%s: ‖ΔW‖ = %v, %v, want nothing", weight.Name, n, err)
		}
	}
}
