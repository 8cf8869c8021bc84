package gguf

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// whole is a file of 5 tensors of 1000 bytes and a tokenizer of some size.
func whole() *Builder {
	b := NewBuilder()
	b.Set(keyArchitecture, "llama")
	b.Set(keyAlignment, uint32(64))
	b.Set("tokenizer.ggml.tokens", strings.Split(strings.Repeat("token ", 50), " "))
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		b.AddTensor(name, TypeI8, []int64{100, 10}, bytes.Repeat([]byte(name), 1000))
	}
	return b
}

func TestWriteSplit(t *testing.T) {
	dir := t.TempDir()
	const most = 2400 // two tensors a part, one beside the tokens
	paths, err := whole().WriteSplit(filepath.Join(dir, "m.gguf"), most)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{partName(dir, 0, 3), partName(dir, 1, 3), partName(dir, 2, 3)}; !reflect.DeepEqual(paths, want) {
		t.Fatalf("paths %q, want %q", paths, want)
	}
	for i, path := range paths {
		p, err := openPart(path) // a part alone, as it is
		if err != nil {
			t.Fatal(err)
		}
		defer p.close()
		if info, _ := os.Stat(path); info.Size() > most {
			t.Errorf("part %d has %d bytes, want at most %d", i, info.Size(), most)
		}
		kvs := p.head.kvs
		want := []KV{{keySplitNo, uint16(i)}, {keySplitCount, uint16(3)}, {keySplitTensors, int32(5)}}
		if got := kvs[len(kvs)-3:]; !reflect.DeepEqual(got, want) || p.head.alignment != 64 {
			t.Errorf("part %d: keys %v, alignment %d, want %v and 64", i, got, p.head.alignment, want)
		}
		if more := len(kvs) > 4; more != (i == 0) {
			t.Errorf("part %d: %d keys, want those of the model in the first part alone", i, len(kvs))
		}
	}
	f, err := Open(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	joined, err := rewrite(f)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if _, err := whole().WriteTo(&want); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(joined, want.Bytes()) {
		t.Error("the parts joined again are not the whole")
	}
	again, err := whole().SplitPaths(paths[0], most)
	if err != nil || !reflect.DeepEqual(again, paths) {
		t.Errorf("SplitPaths of the first part's name = %q, %v, want %q", again, err, paths)
	}
}

func TestWriteSplitBounds(t *testing.T) {
	var size bytes.Buffer
	if _, err := whole().WriteTo(&size); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		most  int64
		parts int
	}{
		{"all in one", int64(size.Len()), 1},
		{"a byte too few", int64(size.Len()) - 1, 2},
		{"too small for any tensor", 1, 5},
	} {
		paths, err := whole().WriteSplit(filepath.Join(t.TempDir(), "m.gguf"), tt.most)
		if err != nil || len(paths) != tt.parts {
			t.Errorf("%s: %q, %v, want %d parts", tt.name, paths, err, tt.parts)
			continue
		}
		if f, err := Open(paths[0]); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else {
			f.Close()
		}
	}
	path := filepath.Join(t.TempDir(), "m.gguf")
	if paths, err := whole().WriteSplit(path, int64(size.Len())); err != nil || paths[0] != path {
		t.Errorf("one part is %q, %v, want %q", paths, err, path)
	}
}

// size is how many bytes a file with these keys and tensors takes.
func size(t *testing.T, kvs []KV, tensors []Tensor) int64 {
	t.Helper()
	b := NewBuilder()
	for _, kv := range kvs {
		b.Set(kv.Key, kv.Value)
	}
	for _, x := range tensors {
		b.AddTensor(x.Name, x.Type, x.Shape, make([]byte, x.Bytes()))
	}
	n, err := b.WriteTo(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A part holds as much as fits: it is within the bound, and with one tensor more it would not be. Names of every length
// move the end of the header over a whole alignment.
func TestWriteSplitFillsEachPart(t *testing.T) {
	const alignment = 64
	for length := range 63 { // a letter more is a name of 64, which ggml refuses
		b := NewBuilder()
		b.Set(keyArchitecture, "llama")
		b.Set(keyAlignment, uint32(alignment))
		for _, end := range []string{"a", "b", "c", "d"} {
			b.AddTensor(strings.Repeat("n", length)+end, TypeI8, []int64{50, 2}, make([]byte, 100))
		}
		for most := int64(alignment); most <= 18*alignment; most += alignment {
			parts, err := b.parts(most)
			if err != nil {
				t.Fatal(err)
			}
			next := 0
			for i, p := range parts {
				if p.from != next || p.to <= p.from {
					t.Fatalf("part %d holds tensors %d to %d, want them from %d on", i, p.from, p.to, next)
				}
				next = p.to
				if n := size(t, p.kvs, b.tensors[p.from:p.to]); n > most && p.to > p.from+1 {
					t.Errorf("names of %d letters, at most %d bytes: part %d has %d tensors and %d bytes", length+1, most, i, p.to-p.from, n)
				}
				if p.to == len(b.tensors) {
					break
				}
				if n := size(t, p.kvs, b.tensors[p.from:p.to+1]); n <= most {
					t.Errorf("names of %d letters, at most %d bytes: part %d has %d tensors, with one more it has %d bytes", length+1, most, i, p.to-p.from, n)
				}
			}
			if next != len(b.tensors) {
				t.Errorf("%d tensors in the parts, want %d", next, len(b.tensors))
			}
		}
	}
}

// The number of parts is a uint16 in the files.
func TestWriteSplitHasAMostOfParts(t *testing.T) {
	b := NewBuilder()
	for i := range maxParts + 1 {
		b.AddTensor(strconv.Itoa(i), TypeI8, []int64{1}, []byte{0})
		if n := i + 1; n >= maxParts {
			paths, err := b.SplitPaths("m.gguf", 1)
			if fits := n == maxParts; fits != (err == nil) || fits && len(paths) != n {
				t.Errorf("%d parts: %d paths, %v", n, len(paths), err)
			}
		}
	}
}

func TestWriteSplitLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	cause := errors.New("disk on fire")
	b := whole()
	b.AddTensorFunc("f", TypeI8, []int64{1}, func(io.Writer) error { return cause })
	if _, err := b.WriteSplit(filepath.Join(dir, "m.gguf"), 2400); !errors.Is(err, cause) {
		t.Errorf("WriteSplit = %v, want %v", err, cause)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left %q behind", left[0].Name())
	}
	b = NewBuilder()
	b.Set("k", 1)
	if _, err := b.WriteSplit(filepath.Join(dir, "m.gguf"), 2400); err == nil {
		t.Error("WriteSplit of a builder with an error = nil")
	}
}
