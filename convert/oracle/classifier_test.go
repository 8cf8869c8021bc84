package oracle

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"finetune/classify"
	"finetune/convert"
	"finetune/convert/safetensors"
	"finetune/eval"
	"finetune/gguf"
	"finetune/internal/near"
	"finetune/merge"
	"finetune/model/native"
	"finetune/quant/plain"

	"github.com/go-skynet/go-llama.cpp/llama"
)

// encoders are the tiny models that llama.cpp's script converted, and the texts of them all.
var encoders = filepath.Join("..", "..", "trainer", "testdata", "encoders")

// scoreTolerance is how far a score of order one may be from PyTorch's: GELU is exact there, in llama.cpp the approximation by tanh,
// read from a table of halves.
const scoreTolerance = 1e-3

// sameScoreTolerance is between two ways through llama.cpp's own states: an adapter, or the weights with it, in another order.
const sameScoreTolerance = 5e-4

// leastCosine is that of embeddings under the same difference of GELU.
const leastCosine = 0.9999

// texts are those that scripts/fixtures/encoder_adapters.py reads: of the first two windows.
func texts(t *testing.T) (all [][]int32) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(encoders, "bert.json"))
	if err != nil {
		t.Fatal(err)
	}
	var stored struct{ Texts [][]struct{ Tokens []int32 } }
	if err := json.Unmarshal(data, &stored); err != nil {
		t.Fatal(err)
	}
	for _, window := range stored.Texts[:2] {
		for _, text := range window {
			all = append(all, text.Tokens)
		}
	}
	return all
}

// states are the pooled states of the texts, one after the other, with an adapter on the model or, if it is empty, none.
func states(t *testing.T, base, adapter string, pooling classify.Pooling) (all [][]float32) {
	t.Helper()
	m, err := native.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	e, err := eval.NewReader(m, 64, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if adapter != "" {
		if _, err := e.Attach(adapter, 1); err != nil {
			t.Fatal(err)
		}
	}
	err = e.States(context.Background(), texts(t), pooling, func(_ int, state []float32) error {
		all = append(all, slices.Clone(state))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// scores are those of a classifier over the states.
func scores(t *testing.T, classifier string, states [][]float32) (all []float32) {
	t.Helper()
	h, err := classify.Load(classifier)
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range states {
		row := make([]float32, len(h.Labels))
		h.Scores(state, row)
		all = append(all, row...)
	}
	return all
}

// rankScores are those of llama.cpp's own rank pooling.
func rankScores(t *testing.T, path string) (all []float32) {
	t.Helper()
	m, err := native.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx, err := llama.NewContext(m, llama.ContextParams{NCtx: 64, Threads: 1, Embeddings: true, FlashAttn: llama.FlashAttnOff})
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Close()
	for _, tokens := range texts(t) {
		if err := ctx.Decode(llama.Batch{Tokens: tokens}); err != nil {
			t.Fatal(err)
		}
		all = append(all, ctx.ClassScores(0)...)
	}
	return all
}

// stored reads a tensor that PyTorch computed.
func stored(t *testing.T, path, tensor string) []float32 {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := f.Data(tensor)
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, len(data)/4)
	if err := plain.Decode(gguf.TypeF32, data, v); err != nil {
		t.Fatal(err)
	}
	return v
}

// converted converts into a folder of its own.
func converted(t *testing.T, c convert.Config, out string) string {
	t.Helper()
	c.Out = filepath.Join(t.TempDir(), out)
	if _, err := convert.Run(c); err != nil {
		t.Fatal(err)
	}
	return c.Out
}

func same(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	off := near.Farthest(got, want)
	t.Logf("%s: off by up to %.2g", what, off)
	if len(got) != len(want) || !near.Enough(off, 0.0, tolerance) {
		t.Errorf("%s: %v, want %v within %g", what, got, want, tolerance)
	}
}

// Adapters that PEFT saved with a classifier give PyTorch's scores after conversion, merged by llama.cpp's rank pooling, and again
// after the way to PEFT and back.
func TestClassifiersThatPEFTSaved(t *testing.T) {
	for name, base := range map[string]string{"peft-bert-classifier": "bert.gguf", "peft-bert-pooler": "bert.gguf", "peft-roberta-classifier": "roberta.gguf"} {
		t.Run(name, func(t *testing.T) {
			base, folder := filepath.Join(encoders, base), filepath.Join("..", "testdata", name)
			c := convert.Config{From: folder, To: convert.GGUF, Model: base, Transformers: filepath.Join("..", "testdata", "bert-transformers")}
			lora := converted(t, c, "adapter.gguf")
			classifier := filepath.Join(filepath.Dir(lora), classify.FileName)
			want := stored(t, folder+".logits.safetensors", "logits")
			same(t, "scores", scores(t, classifier, states(t, base, lora, classify.PoolFirst)), want, scoreTolerance)
			if off := near.Farthest(scores(t, classifier, states(t, base, "", classify.PoolFirst)), want); off < leastEffect {
				t.Errorf("without the adapter scores are off by %g, want more than %g: it does nothing", off, leastEffect)
			}
			merged := filepath.Join(t.TempDir(), "merged.gguf")
			if _, err := merge.Merge(t.Context(), merge.Config{Model: base, Adapters: []merge.Adapter{{Path: lora, Scale: 1}}, Classifier: classifier, Out: merged}, nil); err != nil {
				t.Fatal(err)
			}
			same(t, "rank pooling of the merged model", rankScores(t, merged), want, scoreTolerance)

			back := converted(t, convert.Config{From: lora, To: convert.PEFT, Model: base}, "peft")
			again := converted(t, convert.Config{From: back, To: convert.GGUF, Model: base}, "adapter.gguf")
			same(t, "scores after the way back", scores(t, filepath.Join(filepath.Dir(again), classify.FileName), states(t, base, again, classify.PoolFirst)), want, scoreTolerance)
		})
	}
}

// A classifier that was trained without a dense layer is given one for transformers that changes nothing.
func TestLinearClassifierGoesThroughTheIdentity(t *testing.T) {
	base := filepath.Join(encoders, "bert.gguf")
	lora := converted(t, convert.Config{From: filepath.Join("..", "testdata", "sentence-transformers-bert"), To: convert.GGUF, Model: base}, "adapter.gguf")
	id, err := classify.Load(filepath.Join(filepath.Dir(converted(t, convert.Config{From: filepath.Join("..", "testdata", "peft-bert-pooler"), To: convert.GGUF, Model: base}, "adapter.gguf")), classify.FileName))
	if err != nil {
		t.Fatal(err)
	}
	h := classify.New(id.NEmbd(), []string{"no", "yes", "perhaps"}, classify.PoolFirst, 3)
	h.Architecture, h.BaseHash = id.Architecture, id.BaseHash
	for i := range h.Weights {
		h.Weights[i] *= 50 // of order one
	}
	h.Biases = []float32{0.5, 0, -0.25}
	classifier := filepath.Join(filepath.Dir(lora), classify.FileName)
	if err := h.Save(classifier); err != nil {
		t.Fatal(err)
	}
	all := states(t, base, lora, classify.PoolFirst)
	back := converted(t, convert.Config{From: lora, To: convert.PEFT, Model: base}, "peft")
	again := converted(t, convert.Config{From: back, To: convert.GGUF, Model: base}, "adapter.gguf")
	got, err := classify.Load(filepath.Join(filepath.Dir(again), classify.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if got.Dense == nil || !slices.Equal(got.Labels, h.Labels) {
		t.Errorf("the classifier came back as %v with a dense layer %v, want its labels and one", got.Labels, got.Dense)
	}
	same(t, "scores", scores(t, filepath.Join(filepath.Dir(again), classify.FileName), all), scores(t, classifier, all), sameScoreTolerance)
}

// An adapter that sentence-transformers saved gives its embeddings.
func TestEmbeddingsOfSentenceTransformers(t *testing.T) {
	base, folder := filepath.Join(encoders, "bert.gguf"), filepath.Join("..", "testdata", "sentence-transformers-bert")
	lora := converted(t, convert.Config{From: folder, To: convert.GGUF, Model: base}, "adapter.gguf")
	want := stored(t, folder+".embeddings.safetensors", "embeddings")
	got, without := states(t, base, lora, classify.PoolMean), states(t, base, "", classify.PoolMean)
	for i, state := range got {
		w := want[i*len(state):][:len(state)]
		if c := cosine(state, w); c < leastCosine || c != c {
			t.Errorf("text %d: cosine %v with the embedding of sentence-transformers, want at least %v", i, c, leastCosine)
		}
		if c := cosine(without[i], w); c > leastCosine {
			t.Errorf("text %d: cosine %v without the adapter: it does nothing", i, c)
		}
	}
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab, aa, bb = ab+float64(a[i])*float64(b[i]), aa+float64(a[i])*float64(a[i]), bb+float64(b[i])*float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}
