package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func decode(b []byte) (*File, error) { return Decode(bytes.NewReader(b), int64(len(b))) }

func TestDecodeReadsEveryKind(t *testing.T) {
	want := []KV{
		{"general.architecture", "llama"},
		{"u8", uint8(200)}, {"i8", int8(-100)},
		{"u16", uint16(60000)}, {"i16", int16(-30000)},
		{"u32", uint32(4e9)}, {"i32", int32(-2e9)},
		{"u64", uint64(18e18)}, {"i64", int64(-9e18)},
		{"f32", float32(0.5)}, {"f64", 0.25},
		{"yes", true},
		{"names", ArrayOf("x", "")},
		{"scores", ArrayOf[float32](1, 2, 3)},
		{"flags", ArrayOf(true, false)},
		{"nested", ArrayOf(ArrayOf[int32](7, 8), ArrayOf("in"))},
		{"none", ArrayOf[uint16]()},
	}
	wantTensors := []Tensor{
		{Name: "a", Type: TypeF32, Shape: []int64{3, 2}, Offset: 0},
		{Name: "b", Type: TypeQ8_0, Shape: []int64{32}, Offset: 32},
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, version := range []uint32{2, 3} {
			f, err := decode(sample(order, version))
			if err != nil {
				t.Fatalf("Decode(%v, version %d) = %v, want no error", order, version, err)
			}
			if f.Version() != int(version) || f.ByteOrder() != order || f.Alignment() != 32 || f.Architecture() != "llama" {
				t.Errorf("header is %d %v %d %q, want %d %v 32 \"llama\"",
					f.Version(), f.ByteOrder(), f.Alignment(), f.Architecture(), version, order)
			}
			if !reflect.DeepEqual(f.KVs(), want) {
				t.Errorf("KVs() = %v, want %v", f.KVs(), want)
			}
			if !reflect.DeepEqual(f.Tensors(), wantTensors) {
				t.Errorf("Tensors() = %v, want %v", f.Tensors(), wantTensors)
			}
			data, err := f.Data("a")
			if err != nil {
				t.Fatal(err)
			}
			got := make([]float32, 6)
			binary.Decode(data, binary.LittleEndian, got)
			if want := []float32{1, 2, 3, 4, 5, 6}; !reflect.DeepEqual(got, want) {
				t.Errorf("Data(a) = %v, want %v", got, want)
			}
		}
	}
}

func TestPartIsAPartOfData(t *testing.T) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		f, err := decode(sample(order, 3))
		if err != nil {
			t.Fatal(err)
		}
		all, err := f.Data("a")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range [][2]int64{{0, 24}, {8, 20}, {12, 12}, {20, 24}} {
			if got, err := f.Part("a", r[0], r[1]); err != nil || !bytes.Equal(got, all[r[0]:r[1]]) {
				t.Errorf("%v: Part(a, %v) = %v, %v, want %v", order, r, got, err, all[r[0]:r[1]])
			}
		}
		for _, r := range [][2]int64{{-4, 8}, {8, 4}, {0, 28}, {2, 8}, {4, 7}} {
			if got, err := f.Part("a", r[0], r[1]); err == nil {
				t.Errorf("%v: Part(a, %v) = %v, want an error", order, r, got)
			}
		}
		if _, err := f.Part("c", 0, 4); !errors.Is(err, ErrNoTensor) {
			t.Errorf("Part(c) = %v, want ErrNoTensor", err)
		}
	}
}

func TestBigEndianQuantizedDataIsUnsupported(t *testing.T) {
	f, err := decode(sample(binary.BigEndian, 3))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Data("b")
	var unsupported *UnsupportedError
	if !errors.As(err, &unsupported) {
		t.Errorf("Data(b) = %v, want *UnsupportedError", err)
	}
}

func TestTruncationAtEveryByte(t *testing.T) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		whole := sample(order, 3)
		for n := range whole {
			_, err := decode(whole[:n])
			var truncated *TruncatedError
			if !errors.As(err, &truncated) {
				t.Fatalf("Decode(first %d of %d bytes) = %v, want *TruncatedError", n, len(whole), err)
			}
			if !strings.HasPrefix(err.Error(), "gguf: ") || strings.Count(err.Error(), "gguf: ") != 1 {
				t.Errorf("Decode(first %d bytes) = %q, want the prefix once", n, err)
			}
		}
		if _, err := decode(whole); err != nil {
			t.Errorf("Decode(all bytes) = %v, want no error", err)
		}
	}
}

// TestFileThatShrinksWhileRead gives Decode a reader with less than it promised.
func TestFileThatShrinksWhileRead(t *testing.T) {
	whole := sample(binary.LittleEndian, 3)
	for n := range whole {
		f, err := Decode(bytes.NewReader(whole[:n]), int64(len(whole)))
		if err == nil { // the header was still there
			_, err = f.Data("b")
		}
		var truncated *TruncatedError
		if !errors.As(err, &truncated) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("reading %d of %d bytes = %v, want *TruncatedError", n, len(whole), err)
		}
	}
}

// mostAllocated is what refusing a small file may cost in bytes: the read buffer and
// change, nothing that a count in the file asks for.
const mostAllocated = 256 << 10

func TestDecodeRefuses(t *testing.T) {
	le := binary.LittleEndian
	long := strings.Repeat("n", 64)
	tests := []struct {
		name string
		file *raw
		want any // pointer to the wanted kind of error
		msg  string
	}{
		{"safetensors", rawBytes("\x10\x00\x00\x00\x00\x00\x00\x00{}"), new(*FormatError), `want "GGUF"`},
		{"zip archive", rawBytes("PK\x03\x04 and so on"), new(*FormatError), "PyTorch"},
		{"short file of another kind", rawBytes("GX"), new(*FormatError), `starts with "GX"`},
		{"version 0", newRawVersion(le, 0, 0, 0), new(*FormatError), "version 0"},
		{"version 1", newRawVersion(le, 1, 0, 0), new(*UnsupportedError), "version 1, want 2 or 3"},
		{"version 4", newRawVersion(le, 4, 0, 0), new(*UnsupportedError), "version 4, want 2 or 3"},
		{"big-endian version 1", newRawVersion(binary.BigEndian, 1, 0, 0), new(*UnsupportedError), "version 1, want"},
		{"huge count of keys", newRaw(le, 0, math.MaxUint64), new(*TruncatedError), "key-value pairs: count is 18446744073709551615"},
		{"huge count of tensors", newRaw(le, math.MaxInt64, 0), new(*TruncatedError), "tensors: count is"},
		{"huge key", newRaw(le, 0, 1).num(uint64(math.MaxInt64)).padTo(512), new(*TruncatedError), "a key: needs 9223372036854775807 bytes"},
		{"huge string", newRaw(le, 0, 1).str("k").num(uint32(KindString)).num(uint64(1 << 40)), new(*TruncatedError), `"k": needs 1099511627776 bytes`},
		{"huge array", newRaw(le, 0, 1).arr("k", KindUint64, 1<<61), new(*TruncatedError), `"k": count is`},
		{"huge array that nearly fits", newRaw(le, 0, 1).arr("k", KindUint64, 2).num(uint64(1)), new(*TruncatedError), `"k": needs 16 bytes`},
		{"key without name", newRaw(le, 0, 1).kv("", KindUint8, uint8(1)).padTo(64), new(*FormatError), "a key has 0 bytes"},
		{"key twice", newRaw(le, 0, 2).kv("k", KindUint8, uint8(1)).kv("k", KindUint8, uint8(1)), new(*FormatError), `key "k": is there twice`},
		{"unknown kind", newRaw(le, 0, 1).kv("k", 13, uint64(0)), new(*FormatError), `"k": kind 13`},
		{"unknown kind in array", newRaw(le, 0, 1).arr("k", 99, 0), new(*FormatError), `"k": kind 99`},
		{"bool of 2", newRaw(le, 0, 1).kv("k", KindBool, uint8(2)), new(*FormatError), "a bool is 2"},
		{"arrays too deep", deepArray(le, maxNesting), new(*UnsupportedError), "deep"},
		{"alignment of 0", newRaw(le, 0, 1).kv(keyAlignment, KindUint32, uint32(0)), new(*FormatError), "0 is no power of two"},
		{"alignment of 48", newRaw(le, 0, 1).kv(keyAlignment, KindUint32, uint32(48)), new(*FormatError), "48 is no power of two"},
		{"alignment as string", newRaw(le, 0, 1).str(keyAlignment).num(uint32(KindString)).str("32"), new(*FormatError), "a string, want uint32"},
		{"alignment of 2 GiB", newRaw(le, 0, 1).kv(keyAlignment, KindUint32, uint32(1<<31)), new(*UnsupportedError), "at most"},
		{"tensor twice", newRaw(le, 2, 0).tensor("t", TypeF32, 0, 1).tensor("t", TypeF32, 32, 1).padTo(256), new(*FormatError), `tensor "t": is there twice`},
		{"tensor without name", newRaw(le, 1, 0).tensor("", TypeF32, 0, 1), new(*FormatError), "no name"},
		{"tensor with long name", newRaw(le, 1, 0).tensor(long, TypeF32, 0, 1), new(*UnsupportedError), "at most 63"},
		{"tensor of 5 dimensions", newRaw(le, 1, 0).tensor("t", TypeF32, 0, 1, 1, 1, 1, 1), new(*FormatError), "5 dimensions"},
		{"tensor with negative dimension", newRaw(le, 1, 0).tensor("t", TypeF32, 0, math.MaxUint64), new(*FormatError), "shape [-1]"},
		{"tensor with too many elements", newRaw(le, 1, 0).tensor("t", TypeF32, 0, 1<<32, 1<<32), new(*FormatError), "more elements"},
		{"tensor with too many bytes", newRaw(le, 1, 0).tensor("t", TypeF32, 0, 1<<62), new(*FormatError), "more bytes"},
		{"tensor of no whole block", newRaw(le, 1, 0).tensor("t", TypeQ4_K, 0, 255), new(*FormatError), `tensor "t": a row of 255`},
		{"tensor of removed type", newRaw(le, 1, 0).tensor("t", 31, 0, 32), new(*UnsupportedError), "type(31)"},
		{"tensor of unknown type", newRaw(le, 1, 0).tensor("t", 40, 0, 32), new(*UnsupportedError), "type(40)"},
		{"tensor at odd offset", newRaw(le, 1, 0).tensor("t", TypeF32, 4, 1).padTo(256), new(*FormatError), "no multiple of the alignment 32"},
		{"tensor at offset beyond counting", newRaw(le, 1, 0).tensor("t", TypeF32, 1<<63, 1), new(*FormatError), "more than can be counted"},
		{"tensor past the end", newRaw(le, 1, 0).tensor("t", TypeF32, 0, 9).padTo(32).num(make([]byte, 35)), new(*TruncatedError), `tensor "t": data ends at byte 100, file has 99`},
		{"tensor far past the end", newRaw(le, 1, 0).tensor("t", TypeF32, 1<<59, 1<<57), new(*TruncatedError), `tensor "t": data ends`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := decode(tt.file.Bytes())
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > mostAllocated {
				t.Errorf("Decode of %d bytes allocated %d, want at most %d", tt.file.Len(), got, mostAllocated)
			}
			if err == nil || !errors.As(err, tt.want) {
				t.Fatalf("Decode = %v (%T), want %v", err, err, reflect.TypeOf(tt.want).Elem())
			}
			if !strings.Contains(err.Error(), tt.msg) {
				t.Errorf("Decode = %q, want it to say %q", err, tt.msg)
			}
		})
	}
}

func rawBytes(s string) *raw {
	r := &raw{order: binary.LittleEndian}
	r.WriteString(s)
	return r
}

// deepArray is an array with depth more arrays inside each other.
func deepArray(order binary.ByteOrder, depth int) *raw {
	r := newRaw(order, 0, 1).str("k").num(uint32(KindArray))
	for range depth {
		r.num(uint32(KindArray)).num(uint64(1))
	}
	return r.num(uint32(KindUint8)).num(uint64(0))
}

func TestDecodeTakesScalarsAndAlignment(t *testing.T) {
	r := newRaw(binary.LittleEndian, 2, 1).kv(keyAlignment, KindUint32, uint32(64))
	r.tensor("scalar", TypeF32, 0).tensor("empty", TypeF32, 64, 0, 5)
	f, err := decode(r.padTo(64).num(make([]byte, 64)).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	scalar, _ := f.Tensor("scalar")
	if f.Alignment() != 64 || !reflect.DeepEqual(scalar.Shape, []int64{1}) || scalar.Bytes() != 4 {
		t.Errorf("alignment %d, scalar %v; want 64 and shape [1]", f.Alignment(), scalar)
	}
	if data, err := f.Data("empty"); err != nil || len(data) != 0 {
		t.Errorf("Data(empty) = %v, %v; want no bytes", data, err)
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.gguf")
	whole := sample(binary.LittleEndian, 3)
	if err := os.WriteFile(path, whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(path)
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Open = %v, want an error with the path", err)
	}
	var pathErr *fs.PathError
	if _, err := Open(filepath.Join(dir, "none.gguf")); !errors.As(err, &pathErr) {
		t.Errorf("Open(no file) = %v, want *fs.PathError", err)
	}
	var format *FormatError
	if _, err := Open(dir); !errors.As(err, &format) {
		t.Errorf("Open(folder) = %v, want *FormatError", err)
	}
}

func TestCloseEndsData(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, sample(binary.LittleEndian, 3), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Data("a"); err != nil {
		t.Errorf("Data before Close = %v, want no error", err)
	}
	if _, err := f.Data("c"); !errors.Is(err, ErrNoTensor) {
		t.Errorf("Data(c) = %v, want ErrNoTensor", err)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Errorf("Close = %v, want no error", err)
		}
	}
	if _, err := f.Data("a"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Data after Close = %v, want os.ErrClosed", err)
	}
}

func TestGettersTellMissingFromWrongKind(t *testing.T) {
	f, err := decode(sample(binary.LittleEndian, 3))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		call string
		get  func(key string) (any, error)
		key  string
		want any // the value, or the error
	}{
		{"String", func(k string) (any, error) { return f.String(k) }, "general.architecture", "llama"},
		{"String", func(k string) (any, error) { return f.String(k) }, "u8", ErrKind},
		{"String", func(k string) (any, error) { return f.String(k) }, "gone", ErrNoKey},
		{"Uint", func(k string) (any, error) { return f.Uint(k) }, "u64", uint64(18e18)},
		{"Uint", func(k string) (any, error) { return f.Uint(k) }, "u8", uint64(200)},
		{"Uint", func(k string) (any, error) { return f.Uint(k) }, "i8", ErrKind},
		{"Int", func(k string) (any, error) { return f.Int(k) }, "i64", int64(-9e18)},
		{"Int", func(k string) (any, error) { return f.Int(k) }, "i16", int64(-30000)},
		{"Int", func(k string) (any, error) { return f.Int(k) }, "u64", ErrKind},
		{"Float", func(k string) (any, error) { return f.Float(k) }, "f32", 0.5},
		{"Float", func(k string) (any, error) { return f.Float(k) }, "f64", 0.25},
		{"Float", func(k string) (any, error) { return f.Float(k) }, "u8", ErrKind},
		{"Bool", func(k string) (any, error) { return f.Bool(k) }, "yes", true},
		{"Bool", func(k string) (any, error) { return f.Bool(k) }, "gone", ErrNoKey},
		{"Strings", func(k string) (any, error) { return f.Strings(k) }, "names", []string{"x", ""}},
		{"Strings", func(k string) (any, error) { return f.Strings(k) }, "scores", ErrKind},
		{"Strings", func(k string) (any, error) { return f.Strings(k) }, "u8", ErrKind},
		{"Floats", func(k string) (any, error) { return f.Floats(k) }, "scores", []float32{1, 2, 3}},
		{"Bools", func(k string) (any, error) { return f.Bools(k) }, "flags", []bool{true, false}},
		{"Ints", func(k string) (any, error) { return f.Ints(k) }, "none", []int64{}},
		{"Ints", func(k string) (any, error) { return f.Ints(k) }, "names", ErrKind},
		{"Ints", func(k string) (any, error) { return f.Ints(k) }, "gone", ErrNoKey},
	}
	for _, tt := range tests {
		got, err := tt.get(tt.key)
		if wantErr, ok := tt.want.(error); ok {
			if !errors.Is(err, wantErr) {
				t.Errorf("%s(%q) = %v, %v, want error %v", tt.call, tt.key, got, err, wantErr)
			}
		} else if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s(%q) = %v, %v, want %v", tt.call, tt.key, got, err, tt.want)
		}
	}
}

// TestForget: what was handed out is still there.
func TestForget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, sample(binary.LittleEndian, 3), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before, err := f.Data("a")
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(before)
	f.Forget()
	after, err := f.Data("a")
	if err != nil || !bytes.Equal(before, want) || !bytes.Equal(after, want) {
		t.Errorf("data is %q before and %q after, %v, want %q", before, after, err, want)
	}
}

// Errors of a file that was opened begin with its path, those of bytes with none.
func TestErrorsNameTheFile(t *testing.T) {
	b := NewBuilder()
	b.AddTensor("a", TypeI8, []int64{1}, []byte{7})
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	opened, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		f            *File
		path, prefix string
	}{{opened, path, fmt.Sprintf("gguf: %q: ", path)}, {decoded, "", "gguf: "}} {
		if got := c.f.Path(); got != c.path {
			t.Errorf("Path() = %q, want %q", got, c.path)
		}
		if _, err := c.f.Data("b"); !errors.Is(err, ErrNoTensor) || !strings.HasPrefix(err.Error(), c.prefix+`tensor "b"`) {
			t.Errorf("Data of a tensor that is not there = %v, want ErrNoTensor after %q", err, c.prefix)
		}
		copied := NewBuilder()
		copied.CopyTensor(c.f, "b")
		if _, err := copied.WriteTo(io.Discard); !errors.Is(err, ErrNoTensor) {
			t.Errorf("CopyTensor of a tensor that is not there: %v, want ErrNoTensor", err)
		}
		if err := c.f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCloseClosesAllParts(t *testing.T) {
	first, second, closed := errors.New("first"), errors.New("second"), 0
	closing := func(err error) *part {
		return &part{head: &header{}, close: func() error { closed++; return err }}
	}
	f := newFile([]*part{closing(nil), closing(first), closing(second), closing(nil)})
	if err := f.Close(); err != first || closed != 4 {
		t.Errorf("Close = %v after %d parts, want %v after 4", err, closed, first)
	}
}
