package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rewrite puts the contents of f through a Builder.
func rewrite(f *File) ([]byte, error) {
	b := NewBuilder()
	b.SetAll(f.KVs())
	for _, t := range f.Tensors() {
		b.CopyTensor(f, t.Name)
	}
	var buf bytes.Buffer
	n, err := b.WriteTo(&buf)
	if err == nil && n != int64(buf.Len()) {
		panic("WriteTo miscounted")
	}
	return buf.Bytes(), err
}

// TestWriteMatchesTheSpecification compares with a file written by hand, whose tail
// has no padding after the last tensor.
func TestWriteMatchesTheSpecification(t *testing.T) {
	want := sample(binary.LittleEndian, 3)
	f, err := decode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := rewrite(f)
	if err != nil {
		t.Fatal(err)
	}
	for len(want)%32 != 0 {
		want = append(want, 0)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("rewritten file is\n%q\nwant\n%q", got, want)
	}
}

func TestWriteRefuses(t *testing.T) {
	one := []int64{1}
	four := make([]byte, 4)
	tests := []struct {
		name  string
		build func(b *Builder)
		msg   string
	}{
		{"int value", func(b *Builder) { b.Set("k", 1) }, `key "k": a value of Go type int`},
		{"slice of structs", func(b *Builder) { b.Set("k", []KV{}) }, "[]gguf.KV"},
		{"nil value", func(b *Builder) { b.Set("k", nil) }, "<nil>"},
		{"empty key", func(b *Builder) { b.Set("", uint8(1)) }, "has 0 bytes"},
		{"alignment of 3", func(b *Builder) { b.Set(keyAlignment, uint32(3)) }, "no power of two"},
		{"long tensor name", func(b *Builder) { b.AddTensor(strings.Repeat("n", 64), TypeF32, one, four) }, "at most 63"},
		{"tensor twice", func(b *Builder) { b.AddTensor("t", TypeF32, one, four); b.AddTensor("t", TypeF32, one, four) }, "added twice"},
		{"tensor without shape", func(b *Builder) { b.AddTensor("t", TypeF32, nil, four) }, "0 dimensions"},
		{"tensor of part of a block", func(b *Builder) { b.AddTensor("t", TypeQ8_0, one, four) }, "a row of 1 elements"},
		{"tensor with too few bytes", func(b *Builder) { b.AddTensor("t", TypeF32, one, four[:3]) }, `tensor "t": 3 bytes of data`},
		{"source that writes too little", func(b *Builder) { b.AddTensorFunc("t", TypeF32, one, chunks("ab", "c")) }, "wrote 3 bytes, want 4"},
		{"source that writes too much", func(b *Builder) { b.AddTensorFunc("t", TypeF32, one, chunks("ab", "cde")) }, "wrote more than the 4 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBuilder()
			tt.build(b)
			_, err := b.WriteTo(io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.msg) {
				t.Errorf("WriteTo = %v, want an error that says %q", err, tt.msg)
			}
			dir := t.TempDir()
			if err := b.WriteFile(filepath.Join(dir, "m.gguf")); err == nil {
				t.Error("WriteFile = nil, want an error")
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("WriteFile left %q behind", left[0].Name())
			}
		})
	}
}

func chunks(parts ...string) func(io.Writer) error {
	return func(w io.Writer) error {
		for _, p := range parts {
			if _, err := io.WriteString(w, p); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestWritePassesErrorsThrough(t *testing.T) {
	cause := errors.New("disk on fire")
	b := NewBuilder()
	b.AddTensorFunc("t", TypeF32, []int64{1}, func(io.Writer) error { return cause })
	if _, err := b.WriteTo(io.Discard); !errors.Is(err, cause) || !strings.Contains(err.Error(), `tensor "t"`) {
		t.Errorf("WriteTo = %v, want %v and the tensor", err, cause)
	}
	b = NewBuilder()
	b.AddTensor("t", TypeI8, []int64{1 << 21}, make([]byte, 1<<21))
	if _, err := b.WriteTo(brokenWriter{cause}); !errors.Is(err, cause) {
		t.Errorf("WriteTo(broken writer) = %v, want %v", err, cause)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestSetKeepsPlaceAndTakesSlices(t *testing.T) {
	b := NewBuilder()
	b.Set("a", []string{"x"})
	b.Set("b", uint32(1))
	b.Set("a", []int32{4, 5})
	var buf bytes.Buffer
	if _, err := b.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	f, err := decode(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	kvs := f.KVs()
	if len(kvs) != 2 || kvs[0].Key != "a" || kvs[1].Key != "b" {
		t.Errorf("KVs() = %v, want keys a, b", kvs)
	}
	if got, err := f.Ints("a"); err != nil || len(got) != 2 || got[1] != 5 {
		t.Errorf("Ints(a) = %v, %v, want [4 5]", got, err)
	}
}

// TestWriteAligns checks where ggml looks for the data: each tensor right after the
// padded one before it, in a section that begins at a multiple of the alignment.
func TestWriteAligns(t *testing.T) {
	for _, alignment := range []int64{1, 8, 32, 4096} {
		b := NewBuilder()
		b.Set(keyAlignment, uint32(alignment))
		for _, name := range []string{"a", "b", "c"} {
			b.AddTensor(name, TypeI8, []int64{5}, []byte(strings.Repeat(name, 5)))
		}
		var buf bytes.Buffer
		if _, err := b.WriteTo(&buf); err != nil {
			t.Fatal(err)
		}
		f, err := decode(buf.Bytes())
		if err != nil {
			t.Fatalf("alignment %d: %v", alignment, err)
		}
		for i, tensor := range f.Tensors() {
			if want := int64(i) * pad(5, alignment); tensor.Offset != want {
				t.Errorf("alignment %d: tensor %q at %d, want %d", alignment, tensor.Name, tensor.Offset, want)
			}
			data, err := f.Data(tensor.Name)
			if want := strings.Repeat(tensor.Name, 5); err != nil || string(data) != want {
				t.Errorf("Data(%q) = %q, %v, want %q", tensor.Name, data, err, want)
			}
		}
		if f.head.data%alignment != 0 || int64(buf.Len())%alignment != 0 {
			t.Errorf("alignment %d: data from %d to %d", alignment, f.head.data, buf.Len())
		}
	}
}

// TestReplaceWhileOpen rewrites a model onto its own path, as a merge in place does.
func TestReplaceWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, sample(binary.LittleEndian, 3), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := NewBuilder()
	b.SetAll(f.KVs())
	b.CopyTensor(f, "a")
	b.CopyTensor(f, "b")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	g, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	sameContents(t, g, f)
}

// short takes some bytes, then none.
type short struct {
	left int
	err  error
}

func (s *short) Write(p []byte) (int, error) {
	if len(p) > s.left {
		return s.left, s.err
	}
	s.left -= len(p)
	return len(p), nil
}

func TestWriteToCountsWhatWasWritten(t *testing.T) {
	cause := errors.New("no room")
	for _, room := range []int{0, 100} {
		b := NewBuilder()
		b.AddTensor("a", TypeI8, []int64{1000}, make([]byte, 1000))
		if n, err := b.WriteTo(&short{room, cause}); n != int64(room) || !errors.Is(err, cause) {
			t.Errorf("with room for %d bytes WriteTo = %d, %v, want that many and %v", room, n, err, cause)
		}
	}
}
