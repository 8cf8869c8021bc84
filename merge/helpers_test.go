package merge

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/testmodel"
	"finetune/model"
	"finetune/quant"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// wide has rows of 256, whole blocks of the K-quants.
var wide = testmodel.Spec{Embd: 256, Heads: 4, HeadsKV: 2, FF: 512, Seed: 7}

// quantized is the wide model in a mix of llama.cpp's, such as "q4_k_m".
func quantized(t *testing.T, mix string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), mix+".gguf")
	if err := llama.Quantize(testmodel.Path(t, wide), path, mix, 1); err != nil {
		t.Fatal(err)
	}
	return path
}

// random writes an adapter over a base's targets with factors of normal numbers, whose
// ΔW is about size times W.
func random(t *testing.T, base string, m adapter.Method, targets string, size float64, seed uint64) string {
	t.Helper()
	f, err := model.OpenParts(base)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
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
	const rank, alpha = 6, 3
	a, err := adapter.Build(m, rank, alpha, tensors)
	if err != nil {
		t.Fatal(err)
	}
	a.Architecture, a.BaseName, a.BaseHash = id.Architecture, id.Name, id.Hash
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, factor := range a.Tensors() {
		for i := range factor.Mat.Data {
			factor.Mat.Data[i] = float32(rng.NormFloat64())
		}
	}
	for _, w := range a.Weights { // of unit weights' size: W is normal with 1/√n_in
		nIn, nOut := w.Shape()
		delta := make([]float32, nIn*nOut)
		adapter.Delta(w, delta)
		b, factor := w.Matrices()[1].Mat.Data, float32(size/(rms(delta)*math.Sqrt(float64(nIn))))
		for i := range b {
			b[i] *= factor
		}
	}
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	if err := a.Save(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func rms(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum / float64(len(v)))
}

func openModel(t *testing.T, path string) *gguf.File {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// floats is a tensor decoded.
func floats(t *testing.T, f *gguf.File, name string) []float32 {
	t.Helper()
	tensor, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %q", name)
	}
	data, err := f.Data(name)
	if err != nil {
		t.Fatal(err)
	}
	values := make([]float32, tensor.Elements())
	if err := quant.Decode(tensor.Type, data, values); err != nil {
		t.Fatal(err)
	}
	return values
}

// deltaOf is Σ scale·ΔW of the adapters for a weight, in float64; nil if none is on it.
func deltaOf(t *testing.T, name string, adapters []Adapter) []float64 {
	t.Helper()
	var sum []float64
	for _, named := range adapters {
		a, err := adapter.Load(named.Path)
		if err != nil {
			t.Fatal(err)
		}
		w, ok := a.Weight(name)
		if !ok {
			continue
		}
		nIn, nOut := w.Shape()
		if sum == nil {
			sum = make([]float64, nIn*nOut)
		}
		addProduct(sum, w, float64(named.Scale), nIn, nOut)
	}
	return sum
}

// addProduct adds scale·ΔW, element by element from the definitions.
func addProduct(sum []float64, w adapter.Weight, scale float64, nIn, nOut int) {
	product := func(a, b adapter.Mat, i, o int) (p float64) {
		for k := range a.NE[1] {
			p += float64(a.Row(k)[i]) * float64(b.Row(o)[k])
		}
		return p
	}
	mats := w.Matrices()
	for o := range nOut {
		for i := range nIn {
			v := float64(w.Scale()) * product(mats[0].Mat, mats[1].Mat, i, o)
			if w.Method() == adapter.MethodDual {
				v = max(v, 0)
				if product(mats[2].Mat, mats[3].Mat, i, o) <= 0 {
					v = -v
				}
			}
			sum[o*nIn+i] += scale * v
		}
	}
}

// logits decodes a few tokens with adapters on the model, or without.
func logits(t *testing.T, path string, adapters ...Adapter) []float32 {
	t.Helper()
	m, err := llama.LoadModel(path, llama.ModelParams{CheckTensors: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c, err := llama.NewContext(m, llama.ContextParams{NCtx: 64, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, named := range adapters {
		a, err := llama.LoadAdapter(m, named.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { c.ClearAdapters(); a.Close() }()
		if err := c.SetAdapter(a, named.Scale); err != nil {
			t.Fatal(err)
		}
	}
	tokens := []int32{1, 20, 31, 42, 17, 5}
	if err := c.Decode(llama.Batch{Tokens: tokens}); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(c.Logits(len(tokens) - 1))
}

// distance is the root mean square difference of two vectors.
func distance(a, b []float32) float64 {
	d := make([]float32, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	return rms(d)
}

func mustMerge(t *testing.T, c Config) *Result {
	t.Helper()
	r, err := Merge(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sameBytes(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}
