package classify

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"finetune/gguf"
)

// Keys of the file, beside general.architecture, the base's.
const (
	keyType     = "general.type"
	fileType    = "classifier"
	keyBaseHash = "finetune.base.hash"
	keyOwnPool  = "finetune.classifier.pooling" // string
	keyOwnNames = "finetune.classifier.labels"  // strings, by class; none of a reranker
)

// mostLabels bounds the labels of a file.
const mostLabels = 1 << 16

// Save writes the classifier to path, whole or not at all. A weight that is no number is an error.
func (h *Head) Save(path string) error {
	b := gguf.NewBuilder()
	b.Set(keyType, fileType)
	b.Set("general.architecture", h.Architecture)
	b.Set(keyBaseHash, h.BaseHash)
	b.Set(keyOwnPool, h.Pooling.String())
	if !h.Ranks() {
		b.Set(keyOwnNames, gguf.ArrayOf(h.Labels...))
	}
	if err := h.addTensors(b); err != nil {
		return err
	}
	return b.WriteFile(path)
}

// addTensors adds the two tensors to a file.
func (h *Head) addTensors(b *gguf.Builder) error {
	for _, t := range []struct {
		name  string
		shape []int64
		data  []float32
	}{{TensorWeights, []int64{int64(h.NEmbd()), int64(len(h.Biases))}, h.Weights}, {TensorBiases, []int64{int64(len(h.Biases))}, h.Biases}} {
		raw := make([]byte, 0, 4*len(t.data))
		for i, v := range t.data {
			if v != v || math.IsInf(float64(v), 0) {
				return fmt.Errorf("classifier: tensor %q: element %d is %v", t.name, i, v)
			}
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		b.AddTensor(t.name, gguf.TypeF32, t.shape, raw)
	}
	return b.Err()
}

// Load reads a classifier's file. A file that is none is an error.
func Load(path string) (*Head, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	bad := func(format string, args ...any) error {
		return fmt.Errorf("classifier %q: "+format, append([]any{path}, args...)...)
	}
	if kind, _ := f.String(keyType); kind != fileType {
		return nil, bad("general.type is %q, want %q", kind, fileType)
	}
	h := &Head{Architecture: f.Architecture()}
	h.BaseHash, _ = f.String(keyBaseHash)
	pooling, _ := f.String(keyOwnPool)
	all := []Pooling{PoolMean, PoolFirst, PoolLast}
	i := slices.IndexFunc(all, func(p Pooling) bool { return p.String() == pooling })
	if i < 0 {
		return nil, bad("%s is %q, want mean, cls or last", keyOwnPool, pooling)
	}
	h.Pooling = all[i]
	if _, ok := f.Get(keyOwnNames); ok {
		if err := h.readLabels(f, keyOwnNames); err != nil {
			return nil, bad("%w", err)
		}
	}
	if err := h.readTensors(f); err != nil {
		return nil, bad("%w", err)
	}
	return h, nil
}

// readLabels reads the labels of two classes or more.
func (h *Head) readLabels(f *gguf.File, key string) (err error) {
	if h.Labels, err = f.Strings(key); err != nil {
		return err
	}
	if n := len(h.Labels); n < 2 || n > mostLabels {
		return fmt.Errorf("%d labels, want 2 to %d", n, mostLabels)
	}
	return nil
}

// OfModel returns the classifier that is a part of a model, as AddTo leaves it there; nil where there is none. One behind another
// layer is an error.
func OfModel(f *gguf.File, hash string) (*Head, error) {
	pooling, err := number(f, f.Architecture()+keyPooling)
	if _, ok := f.Tensor(TensorWeights); err != nil || !ok || pooling != poolRank {
		return nil, err
	}
	if _, ok := f.Tensor(tensorDense); ok {
		return nil, fmt.Errorf("model %q: its classifier has a layer %q before %q, which llama.cpp computes and this program does not", f.Path(), tensorDense, TensorWeights)
	}
	h := &Head{Architecture: f.Architecture(), BaseHash: hash}
	if w, _ := f.Tensor(TensorWeights); len(w.Shape) != 2 || w.Shape[1] != 1 {
		if err := h.readLabels(f, h.Architecture+keyLabels); err != nil {
			return nil, fmt.Errorf("model %q: %w", f.Path(), err)
		}
	}
	if h.Pooling, err = PoolingOf(f); err != nil {
		return nil, err
	}
	if err := h.readTensors(f); err != nil {
		return nil, fmt.Errorf("model %q: %w", f.Path(), err)
	}
	return h, nil
}

// readTensors reads weights and biases for the labels that are there, or for a relevance.
func (h *Head) readTensors(f *gguf.File) (err error) {
	n := max(1, int64(len(h.Labels)))
	w, _ := f.Tensor(TensorWeights)
	if len(w.Shape) != 2 || w.Shape[0] < 1 || w.Shape[1] != n {
		return fmt.Errorf("tensor %q has shape %v, want [n_embd %d]", TensorWeights, w.Shape, n)
	}
	b, _ := f.Tensor(TensorBiases)
	if !slices.Equal(b.Shape, []int64{n}) {
		return fmt.Errorf("tensor %q has shape %v, want [%d]", TensorBiases, b.Shape, n)
	}
	if h.Weights, err = floats(f, w); err != nil {
		return err
	}
	h.Biases, err = floats(f, b)
	return err
}

// floats decodes a tensor in F32.
func floats(f *gguf.File, t gguf.Tensor) ([]float32, error) {
	if t.Type != gguf.TypeF32 {
		return nil, fmt.Errorf("tensor %q is %s, want F32", t.Name, t.Type)
	}
	raw, err := f.Data(t.Name)
	if err != nil {
		return nil, err
	}
	data := make([]float32, len(raw)/4)
	for i := range data {
		data[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		if v := float64(data[i]); math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("tensor %q: element %d is %v", t.Name, i, v)
		}
	}
	return data, nil
}
