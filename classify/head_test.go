package classify

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/near"
)

// example returns a classifier with numbers that differ.
func example() *Head {
	h := New(4, []string{"no", "yes", "perhaps"}, PoolMean, 1)
	h.Architecture, h.BaseHash = "bert", "sha256:12"
	for i := range h.Biases {
		h.Biases[i] = float32(i) / 4
	}
	return h
}

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "classifier.gguf")
	h := example()
	if err := h.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.Architecture != "bert" || got.BaseHash != h.BaseHash || got.Pooling != PoolMean || !slices.Equal(got.Labels, h.Labels) ||
		!slices.Equal(got.Weights, h.Weights) || !slices.Equal(got.Biases, h.Biases) {
		t.Errorf("loaded %+v, want %+v", got, h)
	}
}

// The file of a reranker has no labels, and the model that it becomes a part of one score.
func TestARerankersFile(t *testing.T) {
	t.Parallel()
	h := New(4, nil, PoolFirst, 1)
	h.Architecture, h.BaseHash, h.Biases[0] = "bert", "sha256:12", 0.5
	path := filepath.Join(t.TempDir(), "classifier.gguf")
	if err := h.Save(path); err != nil {
		t.Fatal(err)
	}
	b := gguf.NewBuilder()
	b.Set("general.architecture", "bert")
	b.Set("bert.classifier.output_labels", gguf.ArrayOf("a", "b", "c")) // of an older classifier
	if err := h.AddTo(b); err != nil {
		t.Fatal(err)
	}
	merged := filepath.Join(t.TempDir(), "model.gguf")
	if err := b.WriteFile(merged); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(merged)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if labels, err := f.Strings("bert.classifier.output_labels"); err != nil || len(labels) != 1 {
		t.Errorf("labels %q, %v, want one: llama.cpp returns as many scores", labels, err)
	}
	loaded, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	found, err := OfModel(f, "sha256:12")
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []*Head{loaded, found} {
		if !got.Ranks() || got.NEmbd() != 4 || got.Pooling != PoolFirst || !slices.Equal(got.Weights, h.Weights) || !slices.Equal(got.Biases, h.Biases) {
			t.Errorf("found %+v, want %+v", got, h)
		}
	}
}

func TestScoresAreThoseOfALinearLayer(t *testing.T) {
	t.Parallel()
	h := &Head{Labels: []string{"a", "b"}, Weights: []float32{1, 2, 3, -1, 0, 1}, Biases: []float32{0.5, 0}}
	scores := make([]float32, 2)
	h.Scores([]float32{1, 1, 2}, scores)
	if !slices.Equal(scores, []float32{9.5, 1}) {
		t.Errorf("scores %v, want [9.5 1]", scores)
	}
	Probabilities(scores)
	if sum := scores[0] + scores[1]; sum < 0.999999 || sum > 1.000001 || scores[0] < 0.999 {
		t.Errorf("probabilities %v, want nearly all on the first", scores)
	}
}

// withDense returns the example with a dense layer.
func withDense() *Head {
	h := example()
	h.Dense = &Dense{Weights: make([]float32, 16), Biases: []float32{0.5, 0, -0.25, 1}}
	for i := range h.Dense.Weights {
		h.Dense.Weights[i] = float32(i%5) / 8
	}
	return h
}

func TestDenseLayerIsSavedAndLoaded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "classifier.gguf")
	h := withDense()
	if err := h.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.Dense == nil || !slices.Equal(got.Dense.Weights, h.Dense.Weights) || !slices.Equal(got.Dense.Biases, h.Dense.Biases) {
		t.Errorf("loaded a dense layer %+v, want %+v", got.Dense, h.Dense)
	}
}

func TestDenseLayerComesBeforeTheScores(t *testing.T) {
	t.Parallel()
	h := &Head{Labels: []string{"a", "b"}, Weights: []float32{1, 2, -1, 0}, Biases: []float32{0.5, 0},
		Dense: &Dense{Weights: []float32{0, 1, 2, 0}, Biases: []float32{0, -1}}}
	scores := make([]float32, 2)
	h.Scores([]float32{1, 0.5}, scores) // the layer gives tanh(0.5) and tanh(1)
	want := []float32{0.5 + float32(math.Tanh(0.5)+2*math.Tanh(1)), -float32(math.Tanh(0.5))}
	if off := near.Farthest(scores, want); !near.Enough(off, 0.0, rounding) {
		t.Errorf("scores %v, want %v", scores, want)
	}
}

// rounding is that of a few float32 of order one.
const rounding = 1e-6

// damaged writes a file of a classifier that an edit has changed.
func damaged(t *testing.T, edit func(*gguf.Builder), without ...string) string {
	t.Helper()
	whole := filepath.Join(t.TempDir(), "whole.gguf")
	if err := example().Save(whole); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(whole)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := gguf.NewBuilder()
	b.SetAll(f.KVs())
	for _, tensor := range f.Tensors() {
		if !slices.Contains(without, tensor.Name) {
			b.CopyTensor(f, tensor.Name)
		}
	}
	edit(b)
	path := filepath.Join(t.TempDir(), "damaged.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDamagedFilesAreRefused(t *testing.T) {
	t.Parallel()
	one := func(name string, shape ...int64) func(*gguf.Builder) {
		return func(b *gguf.Builder) {
			n := int64(4)
			for _, k := range shape {
				n *= k
			}
			b.AddTensor(name, gguf.TypeF32, shape, make([]byte, n))
		}
	}
	for want, path := range map[string]string{
		`general.type is "adapter", want "classifier"`:                    damaged(t, func(b *gguf.Builder) { b.Set(keyType, "adapter") }),
		`finetune.classifier.pooling is "middle", want mean, cls or last`: damaged(t, func(b *gguf.Builder) { b.Set(keyOwnPool, "middle") }),
		`1 labels, want 2 to 65536`:                                       damaged(t, func(b *gguf.Builder) { b.Set(keyOwnNames, gguf.ArrayOf("a")) }),
		`tensor "cls.output.weight" has shape [4 2], want [n_embd 3]`:     damaged(t, one(TensorWeights, 4, 2), TensorWeights),
		`tensor "cls.output.weight" has shape [], want [n_embd 3]`:        damaged(t, func(*gguf.Builder) {}, TensorWeights),
		`tensor "cls.output.bias" has shape [4], want [3]`:                damaged(t, one(TensorBiases, 4), TensorBiases),
		`tensor "cls.output.bias" is i8, want F32, F16, BF16 or Q8_0`: damaged(t, func(b *gguf.Builder) {
			b.AddTensor(TensorBiases, gguf.TypeI8, []int64{3}, make([]byte, 3))
		}, TensorBiases),
		`tensors "cls.weight" and "cls.bias" have shapes [4 4] and [], want [4 4] and [4]`: damaged(t, one(tensorDense, 4, 4)),
		`tensors "cls.weight" and "cls.bias" have shapes [4 2] and [], want [4 4] and [4]`: damaged(t, one(tensorDense, 4, 2)),
		`a modern-bert whose classifier has a dense layer, want one of bert, neo-bert, which have a tanh behind it`: damaged(t, func(b *gguf.Builder) {
			b.Set("general.architecture", "modern-bert")
			one(tensorDense, 4, 4)(b)
		}),
		`tensor "cls.output.bias": element 1 is NaN`: damaged(t, func(b *gguf.Builder) {
			b.AddTensor(TensorBiases, gguf.TypeF32, []int64{3}, []byte{0, 0, 0, 0, 0, 0, 0xc0, 0x7f, 0, 0, 0, 0})
		}, TensorBiases),
	} {
		if h, err := Load(path); err == nil || !strings.EqualFold(strings.TrimPrefix(err.Error(), `classifier "`+path+`": `), want) {
			t.Errorf("Load = %v, %v, want %s", h, err, want)
		}
	}
}

func TestAnotherBaseIsRefused(t *testing.T) {
	t.Parallel()
	h := example()
	if err := h.CheckBase("bert", "sha256:12", 4); err != nil {
		t.Error(err)
	}
	for _, err := range []error{h.CheckBase("bert", "sha256:13", 4), h.CheckBase("bert", "sha256:12", 8), h.CheckBase("neo-bert", "sha256:12", 4)} {
		if err == nil {
			t.Error("another base is taken, want an error")
		}
	}
}

// What a merge leaves in a model is found there again, and the pooling is that of the classifier.
func TestAModelsOwnClassifier(t *testing.T) {
	t.Parallel()
	b := gguf.NewBuilder()
	b.Set("general.architecture", "bert")
	if err := example().AddTo(b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := OfModel(f, "sha256:12")
	if err != nil {
		t.Fatal(err)
	}
	if want := example(); h.Pooling != want.Pooling || !slices.Equal(h.Labels, want.Labels) || !slices.Equal(h.Weights, want.Weights) {
		t.Errorf("found %+v, want %+v", h, want)
	}
}

func TestPoolingOfFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		keys map[string]any
		want Pooling
	}{
		{"mean", map[string]any{"general.architecture": "bert", "bert.pooling_type": uint32(1)}, PoolMean},
		{"cls", map[string]any{"general.architecture": "bert", "bert.pooling_type": uint32(2)}, PoolFirst},
		{"a reranker", map[string]any{"general.architecture": "bert", "bert.pooling_type": uint32(4)}, PoolFirst},
		{"a reranker over the mean", map[string]any{"general.architecture": "bert", "bert.pooling_type": uint32(4), "bert.classifier.pooling_type": uint32(1)}, PoolMean},
		{"a reranker of ModernBERT", map[string]any{"general.architecture": "modern-bert", "modern-bert.pooling_type": uint32(4)}, PoolMean},
		{"an encoder that says nothing", map[string]any{"general.architecture": "bert", "bert.attention.causal": false}, PoolFirst},
		{"a decoder", map[string]any{"general.architecture": "llama"}, PoolLast},
		{"none that there is", map[string]any{"general.architecture": "llama", "llama.pooling_type": uint32(9)}, 0},
	} {
		b := gguf.NewBuilder()
		for key, value := range c.keys {
			b.Set(key, value)
		}
		path := filepath.Join(t.TempDir(), "model.gguf")
		if err := b.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := PoolingOf(f)
		f.Close()
		if got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%s: %v, %v, want %v", c.name, got, err, c.want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	path := filepath.Join(f.TempDir(), "classifier.gguf")
	if err := example().Save(path); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	if err := withDense().Save(path); err != nil {
		f.Fatal(err)
	}
	if whole, err = os.ReadFile(path); err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "fuzzed.gguf")
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		if h, err := Load(path); err == nil && len(h.Weights) != h.NEmbd()*len(h.Labels) {
			t.Errorf("%d weights for %d labels", len(h.Weights), len(h.Labels))
		}
	})
}

func TestTakeGoesByLabel(t *testing.T) {
	known := New(3, []string{"b", "a", "z"}, PoolFirst, 1)
	known.Biases = []float32{1, 2, 3}
	h := New(3, []string{"a", "b", "c"}, PoolFirst, 2)
	fresh := slices.Clone(h.Weights)
	if n := h.Take(known); n != 2 {
		t.Errorf("Take = %d, want 2", n)
	}
	if want := slices.Concat(known.Weights[3:6], known.Weights[:3], fresh[6:]); !slices.Equal(h.Weights, want) || !slices.Equal(h.Biases, []float32{2, 1, 0}) {
		t.Errorf("weights %v, biases %v, want %v and those of a and b", h.Weights, h.Biases, want)
	}
	if n := New(3, nil, PoolFirst, 1).Take(known); n != 0 {
		t.Errorf("a reranker takes %d classes", n)
	}
}
