package imatrix

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"finetune/gguf"
	"finetune/internal/hint"
)

func sample() *Matrix {
	return &Matrix{
		Datasets: []string{"a.txt", "b.txt"}, Chunks: 3, ChunkSize: 512,
		Entries: map[string]Entry{
			"blk.0.attn_q.weight":    {Sum2: []float32{8, 0, 2}, Tokens: 4},
			"blk.10.ffn_down.weight": {[]float32{1}, 1536, []float32{0, 0.5}},
			"blk.2.ffn_up.weight":    {Sum2: []float32{0, 0}},
		},
	}
}

// open decodes a builder's file.
func open(t *testing.T, b *gguf.Builder) *gguf.File {
	t.Helper()
	var buf bytes.Buffer
	if _, err := b.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Decode(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRoundTrip(t *testing.T) {
	first, second := filepath.Join(t.TempDir(), "a.gguf"), filepath.Join(t.TempDir(), "b.gguf")
	want := sample()
	if err := want.Save(first); err != nil {
		t.Fatal(err)
	}
	got, err := Load(first)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Load = %+v, want %+v", got, want)
	}
	if err := got.Save(second); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(first)
	b, _ := os.ReadFile(second)
	if !bytes.Equal(a, b) {
		t.Error("saving what was loaded gives other bytes")
	}
}

// TestFileIsLlamaCpps pins kinds, names, order and shapes: those of
// IMatrixCollector::save_imatrix, whose counts and sums are two-dimensional tensors of
// which ggml drops the last dimension when it is 1.
func TestFileIsLlamaCpps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := sample().Save(path); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	keys := []gguf.KV{{Key: "general.type", Value: "imatrix"}, {Key: "imatrix.datasets", Value: gguf.ArrayOf("a.txt", "b.txt")},
		{Key: "imatrix.chunk_count", Value: uint32(3)}, {Key: "imatrix.chunk_size", Value: uint32(512)}}
	if got := f.KVs(); !reflect.DeepEqual(got, keys) {
		t.Errorf("keys %v, want %v", got, keys)
	}
	var got []string
	for _, tensor := range f.Tensors() {
		got = append(got, fmt.Sprintf("%s %s %v", tensor.Name, tensor.Type, tensor.Shape))
	}
	want := []string{
		"blk.0.attn_q.weight.in_sum2 f32 [3]", "blk.0.attn_q.weight.counts f32 [1]",
		"blk.10.ffn_down.weight.in_sum2 f32 [1]", "blk.10.ffn_down.weight.counts f32 [1]", "blk.10.ffn_down.weight.out_grad2 f32 [2]",
		"blk.2.ffn_up.weight.in_sum2 f32 [2]", "blk.2.ffn_up.weight.counts f32 [1]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("tensors %q, want %q", got, want)
	}
}

func TestMeans(t *testing.T) {
	m := sample()
	for _, c := range []struct {
		weight    string
		mean, rms []float32
	}{
		{"blk.0.attn_q.weight", []float32{2, 0, 0.5}, []float32{float32(math.Sqrt(2)), 0, float32(math.Sqrt(0.5))}},
		{"blk.2.ffn_up.weight", []float32{1, 1}, []float32{1, 1}}, // no token: as llama.cpp
	} {
		e := m.Entries[c.weight]
		if got := e.MeanSquares(); !slices.Equal(got, c.mean) {
			t.Errorf("%s: MeanSquares = %v, want %v", c.weight, got, c.mean)
		}
		if got := e.RMS(); !slices.Equal(got, c.rms) {
			t.Errorf("%s: RMS = %v, want %v", c.weight, got, c.rms)
		}
	}
}

// tensors starts an importance matrix with the given tensors of ones.
func tensors(add ...gguf.Tensor) *gguf.Builder {
	b := gguf.NewBuilder()
	b.Set(keyType, kind)
	for _, t := range add {
		data := make([]byte, t.Bytes())
		for i := 0; i+4 <= len(data) && t.Type == gguf.TypeF32; i += 4 {
			binary.LittleEndian.PutUint32(data[i:], math.Float32bits(1))
		}
		b.AddTensor(t.Name, t.Type, t.Shape, data)
	}
	return b
}

func f32(name string, shape ...int64) gguf.Tensor {
	return gguf.Tensor{Name: name, Type: gguf.TypeF32, Shape: shape}
}

func TestExpertsAreSkipped(t *testing.T) {
	m, err := read(open(t, tensors(
		f32("blk.0.ffn_up_exps.weight.in_sum2", 4, 8), f32("blk.0.ffn_up_exps.weight.counts", 1, 8),
		f32("blk.0.attn_q.weight.in_sum2", 4), f32("blk.0.attn_q.weight.counts", 1), f32("something.else", 1))))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"blk.0.ffn_up_exps.weight"}; !slices.Equal(m.Skipped, want) || len(m.Entries) != 1 {
		t.Errorf("skipped %q, %d entries, want %q and 1", m.Skipped, len(m.Entries), want)
	}
}

func TestLoadRefuses(t *testing.T) {
	numbers := func(sum, count float32) *gguf.Builder {
		b := tensors()
		b.AddTensor("w.in_sum2", gguf.TypeF32, []int64{2}, bytesOf([]float32{1, sum}))
		b.AddTensor("w.counts", gguf.TypeF32, []int64{1}, bytesOf([]float32{count}))
		return b
	}
	with := func(b *gguf.Builder, key string, v any) *gguf.Builder { b.Set(key, v); return b }
	pair := func() *gguf.Builder { return tensors(f32("w.in_sum2", 2), f32("w.counts", 1)) }
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		name string
		b    *gguf.Builder
		want string
	}{
		{"a model", with(pair(), keyType, "model"), `general.type is "model", want "imatrix"`},
		{"nothing in it", tensors(), "holds no sums of squares"},
		{"no counts", tensors(f32("w.in_sum2", 2)), `weight "w": has .in_sum2 and no .counts`},
		{"no sums", tensors(f32("w.counts", 1)), `weight "w": has .counts and no .in_sum2`},
		{"halves", tensors(gguf.Tensor{Name: "w.in_sum2", Type: gguf.TypeF16, Shape: []int64{2}}, f32("w.counts", 1)), "sums are f16 and counts f32, want f32"},
		{"more counts than sums", tensors(f32("w.in_sum2", 2), f32("w.counts", 1, 3)), "do not fit"},
		{"no count", tensors(f32("w.in_sum2", 2), f32("w.counts", 0)), "do not fit"},
		{"no inputs", tensors(f32("w.in_sum2", 0), f32("w.counts", 1)), "has no inputs"},
		{"negative sum", numbers(-1, 4), "the sum of squares of input 1 is -1"},
		{"NaN", numbers(nan, 4), "the sum of squares of input 1 is NaN"},
		{"negative count", numbers(1, -4), "counts -4 tokens"},
		{"infinite count", numbers(1, inf), "counts +Inf tokens"},
		{"mean beyond a float", numbers(1e38, 1e-30), "the mean square of input 1 is +Inf"},
		{"datasets that are a number", with(pair(), keyDatasets, uint32(1)), "imatrix.datasets"},
		{"negative chunks", with(pair(), keyChunks, int32(-1)), "imatrix.chunk_count"},
		{"too many chunks", with(pair(), keyChunks, uint64(1)<<40), "want 32 bits"},
	} {
		if _, err := read(open(t, c.b)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", c.name, err, c.want)
		}
	}
}

func TestLoadNamesTheOldFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "imatrix.dat")
	if err := os.WriteFile(path, []byte{1, 0, 0, 0, 1, 0, 0, 0, 'w'}, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if hints := hint.Of(err); err == nil || len(hints) != 1 || !strings.Contains(hints[0], "llama-imatrix --in-file") {
		t.Errorf("Load = %v with hints %q, want one that says how to convert it", err, hints)
	}
}

func TestSaveRefuses(t *testing.T) {
	entry := func(name string, e Entry) *Matrix { return &Matrix{Entries: map[string]Entry{name: e}} }
	many := sample()
	many.Chunks = -1
	for _, c := range []struct {
		name string
		m    *Matrix
		want string
	}{
		{"no entry", &Matrix{}, "imatrix: no weight to write"},
		{"no inputs", entry("w", Entry{Tokens: 1}), `imatrix: weight "w": has no inputs`},
		{"negative", entry("w", Entry{Sum2: []float32{-1}, Tokens: 1}), `imatrix: weight "w": the sum of squares of input 0 is -1`},
		{"gradient", entry("w", Entry{[]float32{1}, 1, []float32{0, -1}}), `imatrix: weight "w": the sum of squares of output gradient 1 is -1 over 1 tokens`},
		{"long name", entry(strings.Repeat("n", 60), Entry{Sum2: []float32{1}, Tokens: 1}), "at most 63"},
		{"negative chunks", many, `imatrix: key "imatrix.chunk_count": -1, want 32 bits`},
	} {
		dir := t.TempDir()
		if err := c.m.Save(filepath.Join(dir, "m.gguf")); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", c.name, err, c.want)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left %q behind", c.name, left[0].Name())
		}
	}
}

// FuzzLoad checks that no bytes make Load panic, that every refusal is of a known
// kind, and that what is read can be saved and read again.
func FuzzLoad(f *testing.F) {
	for _, b := range []*gguf.Builder{
		tensors(f32("w.in_sum2", 2), f32("w.counts", 1)),
		tensors(f32("w.in_sum2", 2, 3), f32("w.counts", 1, 3), f32("v.in_sum2", 1), f32("v.counts", 1)),
		tensors(f32("w.in_sum2", 2)),
	} {
		var buf bytes.Buffer
		b.WriteTo(&buf)
		f.Add(buf.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decode(data)
		if err != nil {
			checkKind(t, err)
			return
		}
		if len(m.Entries) == 0 {
			return // experts only
		}
		b, err := m.builder()
		if err != nil {
			t.Fatalf("Save of what was loaded = %v", err)
		}
		var again bytes.Buffer
		if _, err := b.WriteTo(&again); err != nil {
			t.Fatalf("Save of what was loaded = %v", err)
		}
		back, err := decode(again.Bytes())
		if err != nil || !reflect.DeepEqual(back.Entries, m.Entries) {
			t.Errorf("second Load = %v, %v, want %v", back, err, m)
		}
	})
}

// decode does what Load does, without a file: writing one and waiting for the disk takes most of a fuzzer's time.
func decode(data []byte) (*Matrix, error) {
	f, err := gguf.Decode(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	return read(f)
}

func checkKind(t *testing.T, err error) {
	t.Helper()
	var own *FormatError
	var format *gguf.FormatError
	var cut *gguf.TruncatedError
	var unsupported *gguf.UnsupportedError
	if !errors.As(err, &own) && !errors.As(err, &format) && !errors.As(err, &cut) && !errors.As(err, &unsupported) && !errors.Is(err, gguf.ErrKind) {
		t.Errorf("Load = %v (%T), want an error of a known kind", err, err)
	}
}
