package imatrix

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"finetune/gguf"
	"finetune/internal/hint"
)

// Keys and suffixes of llama.cpp (tools/imatrix/imatrix.cpp, src/llama-impl.h).
const (
	keyType      = "general.type"
	kind         = "imatrix"
	keyDatasets  = "imatrix.datasets"
	keyChunks    = "imatrix.chunk_count" // uint32
	keyChunkSize = "imatrix.chunk_size"  // uint32
	sumsSuffix   = ".in_sum2"
	countsSuffix = ".counts"
	gradsSuffix  = ".out_grad2" // our own
)

// Load reads a file. Tensors that are neither sums nor counts are passed over, as
// llama.cpp does, and the weights of experts are listed in Skipped. Sums without
// counts, shapes that do not fit and numbers below 0 or not finite are a *FormatError.
func Load(path string) (*Matrix, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, oldFormat(err)
	}
	defer f.Close()
	return read(f)
}

// oldFormat says of a file that is no GGUF what it may be.
func oldFormat(err error) error {
	var format *gguf.FormatError
	if !errors.As(err, &format) {
		return err
	}
	return hint.With(err, "an imatrix.dat becomes a GGUF by llama-imatrix --in-file imatrix.dat -o imatrix.gguf")
}

// read does what Load does, from a file that is open. It keeps nothing of f.
func read(f *gguf.File) (*Matrix, error) {
	r := &reader{f, &Matrix{Entries: map[string]Entry{}}}
	if got, _ := f.String(keyType); got != kind {
		return nil, r.format("general.type is %q, want %q", got, kind)
	}
	if err := r.keys(); err != nil {
		return nil, err
	}
	for _, t := range f.Tensors() {
		if err := r.tensor(t); err != nil {
			return nil, err
		}
	}
	if len(r.m.Entries)+len(r.m.Skipped) == 0 {
		return nil, r.format("holds no sums of squares")
	}
	return r.m, nil
}

type reader struct {
	f *gguf.File
	m *Matrix
}

func (r *reader) format(format string, args ...any) error {
	return &FormatError{r.f.Path(), fmt.Sprintf(format, args...)}
}

// keys reads what only describes the matrix, and may be missing.
func (r *reader) keys() (err error) {
	if r.m.Datasets, err = r.f.Strings(keyDatasets); err != nil && !errors.Is(err, gguf.ErrNoKey) {
		return err
	}
	if r.m.Chunks, err = r.number(keyChunks); err != nil {
		return err
	}
	r.m.ChunkSize, err = r.number(keyChunkSize)
	return err
}

func (r *reader) number(key string) (int, error) {
	n, err := r.f.Uint(key)
	switch {
	case errors.Is(err, gguf.ErrNoKey):
		return 0, nil
	case err != nil:
		return 0, err
	case n > math.MaxUint32:
		return 0, r.format("key %q: %d, want 32 bits", key, n)
	}
	return int(n), nil
}

// tensor files the sums of one weight together with their counts.
func (r *reader) tensor(t gguf.Tensor) error {
	weight, isSums := strings.CutSuffix(t.Name, sumsSuffix)
	if !isSums {
		weight, isCounts := strings.CutSuffix(t.Name, countsSuffix)
		if _, ok := r.f.Tensor(weight + sumsSuffix); isCounts && !ok {
			return r.format("weight %q: has %s and no %s", weight, countsSuffix, sumsSuffix)
		}
		return nil
	}
	counts, ok := r.f.Tensor(weight + countsSuffix)
	switch {
	case !ok:
		return r.format("weight %q: has %s and no %s", weight, sumsSuffix, countsSuffix)
	case t.Type != gguf.TypeF32 || counts.Type != gguf.TypeF32:
		return r.format("weight %q: sums are %s and counts %s, want f32", weight, t.Type, counts.Type)
	case counts.Elements() < 1 || t.Elements() != t.Shape[0]*counts.Elements():
		return r.format("weight %q: sums of shape %v and counts of shape %v do not fit", weight, t.Shape, counts.Shape)
	case counts.Elements() > 1:
		r.m.Skipped = append(r.m.Skipped, weight)
		return nil
	}
	return r.entry(weight)
}

func (r *reader) entry(weight string) error {
	sums, err := r.floats(weight + sumsSuffix)
	if err != nil {
		return err
	}
	count, err := r.floats(weight + countsSuffix)
	if err != nil {
		return err
	}
	e := Entry{Sum2: sums, Tokens: count[0]}
	if e.Grad2, err = r.gradients(weight); err != nil {
		return err
	}
	if err := e.check(weight); err != nil {
		return r.format("%v", err)
	}
	r.m.Entries[weight] = e
	return nil
}

// gradients reads what only our own files have.
func (r *reader) gradients(weight string) ([]float32, error) {
	t, ok := r.f.Tensor(weight + gradsSuffix)
	switch {
	case !ok:
		return nil, nil
	case t.Type != gguf.TypeF32 || t.Elements() == 0 || t.Elements() != t.Shape[0]:
		return nil, r.format("weight %q: %s is %s of shape %v, want f32 [n_out]", weight, gradsSuffix, t.Type, t.Shape)
	}
	return r.floats(t.Name)
}

func (r *reader) floats(name string) ([]float32, error) {
	data, err := r.f.Data(name)
	if err != nil {
		return nil, err
	}
	values := make([]float32, len(data)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return values, nil
}

// Save writes the matrix to path, whole or not at all, weights in the order of their
// names as llama.cpp has them. Skipped is not written. Numbers that [Load] would
// refuse are an error, and so is a weight whose name is too long for a tensor's.
func (m *Matrix) Save(path string) error {
	b, err := m.builder()
	if err != nil {
		return err
	}
	return b.WriteFile(path)
}

// builder returns what Save writes.
func (m *Matrix) builder() (*gguf.Builder, error) {
	if len(m.Entries) == 0 {
		return nil, errors.New("imatrix: no weight to write")
	}
	b := gguf.NewBuilder()
	b.Set(keyType, kind)
	b.Set(keyDatasets, append([]string{}, m.Datasets...))
	for _, kv := range []struct {
		key   string
		value int
	}{{keyChunks, m.Chunks}, {keyChunkSize, m.ChunkSize}} {
		if kv.value < 0 || uint64(kv.value) > math.MaxUint32 {
			return nil, fmt.Errorf("imatrix: key %q: %d, want 32 bits", kv.key, kv.value)
		}
		b.Set(kv.key, uint32(kv.value))
	}
	for _, weight := range slices.Sorted(maps.Keys(m.Entries)) {
		e := m.Entries[weight]
		if err := e.check(weight); err != nil {
			return nil, fmt.Errorf("imatrix: %w", err)
		}
		b.AddTensor(weight+sumsSuffix, gguf.TypeF32, []int64{int64(len(e.Sum2))}, bytesOf(e.Sum2))
		b.AddTensor(weight+countsSuffix, gguf.TypeF32, []int64{1}, bytesOf([]float32{e.Tokens}))
		if len(e.Grad2) > 0 {
			b.AddTensor(weight+gradsSuffix, gguf.TypeF32, []int64{int64(len(e.Grad2))}, bytesOf(e.Grad2))
		}
	}
	return b, nil
}

func bytesOf(values []float32) []byte {
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return data
}
