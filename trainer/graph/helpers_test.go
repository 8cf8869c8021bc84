package graph

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"finetune/adapter"
	"finetune/gguf"
	"finetune/internal/need"
	"finetune/internal/testmodel"
	"finetune/quant"
	"finetune/trainer/data"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// onTrained runs a test over models that say something, in F32: the demo's base, and the stories where they are.
func onTrained(t *testing.T, test func(t *testing.T, path string)) {
	t.Helper()
	t.Run("base", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "base.gguf")
		if err := testmodel.Retype(need.Own(t, "demo/base.gguf"), path, gguf.TypeF32); err != nil {
			t.Fatal(err)
		}
		test(t, path)
	})
	t.Run("stories260K", func(t *testing.T) { test(t, need.Shared(t, "models/stories260K-f32.gguf")) })
}

func loadModel(t *testing.T, path string) *llama.Model {
	t.Helper()
	m, err := llama.LoadModel(path, llama.ModelParams{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// formulas are the methods whose products differ, as an rsLoRA's and a LoRA's do not.
var formulas = slices.DeleteFunc(adapter.Methods(), func(m adapter.Method) bool {
	f, err := adapter.New(m, 2, 2, m.MinRank(), 0)
	return err != nil || f.Method() != m
})

// allLinear makes freshly started factors for every block matrix of the model file, which stays open for them.
func allLinear(t *testing.T, path string, method adapter.Method, rank int) []adapter.Weight {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	targets, err := adapter.ParseTargets(`blk\..*`)
	if err != nil {
		t.Fatal(err)
	}
	selected, err := targets.Select(f.Tensors())
	if err != nil {
		t.Fatal(err)
	}
	a, err := adapter.Build(method, rank, 0, selected)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Bind(f, quant.Decode); err != nil {
		t.Fatal(err)
	}
	a.Init(1)
	return a.Weights
}

// bind gives a weight [n_in, n_out] of a base to factors.
func bind(t *testing.T, w adapter.Weight, values []float32) {
	t.Helper()
	data, err := quant.Encode(gguf.TypeF32, values, len(values), nil)
	if err != nil {
		t.Fatal(err)
	}
	nIn, nOut := w.Shape()
	b := gguf.NewBuilder()
	b.AddTensor(w.Name, gguf.TypeF32, []int64{int64(nIn), int64(nOut)}, data)
	path := filepath.Join(t.TempDir(), "base.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := w.Bind(f, quant.Decode); err != nil {
		t.Fatal(err)
	}
}

// disturb adds noise to all factors, to B too, so that no gradient is zero by construction.
func disturb(weights []adapter.Weight) {
	for _, w := range weights {
		for _, m := range w.Factors.Matrices() {
			for i := range m.Mat.Data {
				m.Mat.Data[i] += float32(math.Sin(float64(i)*12.9898+float64(len(w.Name)))) * 0.1
			}
		}
	}
}

// windows makes S windows of T pseudo-random tokens; the first has two documents, and some tokens are not trained.
func windows(shape Shape, vocab int) []data.Window {
	var all []data.Window
	x := uint32(7)
	next := func() int32 {
		x = x*1664525 + 1013904223
		return int32(3 + (x>>8)%uint32(vocab-3))
	}
	for s := range shape.Seqs {
		w := data.Window{}
		for i := range shape.Ctx {
			pos, doc := int32(i), int32(0)
			if half := shape.Ctx / 2; s == 0 && i >= half {
				pos, doc = int32(i-half), 1
			}
			weight := float32(1)
			if i%5 == 4 {
				weight = 0
			}
			w.Tokens, w.Targets = append(w.Tokens, next()), append(w.Targets, next())
			w.Pos, w.Doc, w.LossMask = append(w.Pos, pos), append(w.Doc, doc), append(w.LossMask, weight)
		}
		all = append(all, w)
	}
	return all
}

func newEngine(t *testing.T, m *llama.Model, weights []adapter.Weight, o Options) *Engine {
	t.Helper()
	if o.Threads == 0 {
		o.Threads = 1 // threads of ggml spin, which is slow where the machine is shared
	}
	e, err := newReady(m, weights, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// decode is llama.cpp's own logits [V, N] for the windows, every document a sequence of its own.
func decode(t *testing.T, m *llama.Model, shape Shape, ws []data.Window) []float32 {
	t.Helper()
	f32 := typeF32
	var logits []float32
	for _, w := range ws {
		docs := int(w.Doc[len(w.Doc)-1]) + 1
		ctx, err := llama.NewContext(m, llama.ContextParams{NCtx: shape.Ctx * docs, NBatch: shape.Ctx, NUBatch: shape.Ctx,
			NSeqMax: docs, Threads: 1, FlashAttn: llama.FlashAttnOff, TypeK: &f32, TypeV: &f32})
		if err != nil {
			t.Fatal(err)
		}
		output := make([]bool, len(w.Tokens))
		for i := range output {
			output[i] = true
		}
		if err := ctx.Decode(llama.Batch{Tokens: w.Tokens, Pos: w.Pos, Seq: w.Doc, Output: output}); err != nil {
			t.Fatal(err)
		}
		for i := range w.Tokens {
			logits = append(logits, ctx.Logits(i)...)
		}
		ctx.Close()
	}
	return logits
}
