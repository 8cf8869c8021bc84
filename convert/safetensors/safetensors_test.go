package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"finetune/internal/need"
)

// file puts a header text and data together.
func file(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	for i := range data {
		b = append(b, byte(i))
	}
	return b
}

func decode(b []byte) (*File, error) { return Decode(bytes.NewReader(b), int64(len(b))) }

// rewrite writes what f holds.
func rewrite(f *File) ([]byte, error) {
	b := NewBuilder(f.Metadata())
	for _, t := range f.Tensors() {
		b.Add(t.Name, t.DType, t.Shape, func() ([]byte, error) { return f.Data(t.Name) })
	}
	var out bytes.Buffer
	n, err := b.WriteTo(&out)
	if err == nil && n != int64(out.Len()) {
		err = errors.New("WriteTo counted wrongly")
	}
	return out.Bytes(), err
}

const sample = `{"__metadata__":{"format":"pt"},"a<b>":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},` +
	`"n":{"dtype":"F32","shape":[],"data_offsets":[24,28]},"empty":{"dtype":"BF16","shape":[0,7],"data_offsets":[28,28]},` +
	`"h":{"dtype":"F16","shape":[2],"data_offsets":[28,32]}}`

func TestDecode(t *testing.T) {
	f, err := decode(file(sample, 32))
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"format": "pt"}; !reflect.DeepEqual(f.Metadata(), want) {
		t.Errorf("Metadata() = %v, want %v", f.Metadata(), want)
	}
	var names []string
	for _, tensor := range f.Tensors() {
		names = append(names, tensor.Name)
	}
	if got := strings.Join(names, " "); got != "a<b> n empty h" {
		t.Errorf("tensors = %s, want the order of their data", got)
	}
	data, err := f.Data("h")
	if want := []byte{28, 29, 30, 31}; err != nil || !bytes.Equal(data, want) {
		t.Errorf("Data(h) = %v, %v, want %v", data, err, want)
	}
	if _, err := f.Data("none"); err == nil {
		t.Error("Data of a tensor that is not there: no error")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Data("h"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Data after Close = %v, want %v", err, os.ErrClosed)
	}
}

// Each damaged file is refused with what is wrong.
func TestDecodeRefuses(t *testing.T) {
	one := func(entry string) string { return `{"x":` + entry + `}` }
	lied := file(`{}`, 0)
	binary.LittleEndian.PutUint64(lied, 3)
	huge := file(`{}`, 0)
	binary.LittleEndian.PutUint64(huge, 1<<63+5)
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "has 0 bytes, want 8"},
		{"header past the end", lied, "header ends at byte 11, file has 10"},
		{"header past all files", huge, "the format takes at most"},
		{"no header", file(``, 0), "no JSON object"},
		{"a list", file(`[]`, 0), "no JSON object"},
		{"not UTF-8", file("{\"\xff\":{}}", 0), "UTF-8"},
		{"cut JSON", file(`{"x":{"dtype":"F32"`, 0), "no valid JSON"},
		{"two objects", file(`{}{}`, 0), "goes on after"},
		{"tensor twice", file(`{"x":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"x":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}}`, 4), `key "x" comes twice`},
		{"member twice", file(one(`{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,2]}`), 2), `key "dtype" comes twice`},
		{"metadata twice", file(`{"__metadata__":{},"__metadata__":{}}`, 0), "comes twice"},
		{"metadata that is no text", file(`{"__metadata__":{"a":1}}`, 0), "want a string"},
		{"unknown member", file(one(`{"dtype":"F16","shape":[1],"data_offsets":[0,2],"z":1}`), 2), `key "z" is unknown`},
		{"member missing", file(one(`{"dtype":"F16","shape":[1]}`), 2), "want dtype, shape and data_offsets"},
		{"number for a tensor", file(one(`7`), 0), "want a JSON object"},
		{"negative dimension", file(one(`{"dtype":"F16","shape":[-1],"data_offsets":[0,2]}`), 2), "whole numbers"},
		{"fractional offset", file(one(`{"dtype":"F16","shape":[1],"data_offsets":[0,2.0]}`), 2), "whole numbers"},
		{"text for a dimension", file(one(`{"dtype":"F16","shape":["1"],"data_offsets":[0,2]}`), 2), "whole numbers"},
		{"end before start", file(one(`{"dtype":"F16","shape":[1],"data_offsets":[4,2]}`), 4), "want start and end"},
		{"three offsets", file(one(`{"dtype":"F16","shape":[1],"data_offsets":[0,2,4]}`), 4), "want start and end"},
		{"shape larger than data", file(one(`{"dtype":"F16","shape":[9],"data_offsets":[0,2]}`), 2), "2 bytes of data, F16 of shape [9] has 18"},
		{"shape that wraps round", file(one(`{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}`), 0), "more elements than can be counted"},
		{"end past the file", file(one(`{"dtype":"F16","shape":[4],"data_offsets":[0,8]}`), 2), "data ends at byte 8, file has 2"},
		{"overlap", file(`{"x":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"y":{"dtype":"F16","shape":[2],"data_offsets":[2,6]}}`, 6), "inside another tensor"},
		{"the same data twice", file(`{"x":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"y":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}`, 4), "inside another tensor"},
		{"gap", file(`{"x":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"y":{"dtype":"F16","shape":[1],"data_offsets":[4,6]}}`, 6), "has no gaps"},
		{"data before the first", file(one(`{"dtype":"F16","shape":[1],"data_offsets":[2,4]}`), 4), "has no gaps"},
		{"data after the last", file(one(`{"dtype":"F16","shape":[1],"data_offsets":[0,2]}`), 5), "file has 5 bytes of data, its tensors 2"},
	} {
		_, err := decode(tt.file)
		var format *FormatError
		if !errors.As(err, &format) || !strings.Contains(format.Msg, tt.want) {
			t.Errorf("%s: Decode = %v, want a *FormatError with %q", tt.name, err, tt.want)
		}
	}
	_, err := decode(file(one(`{"dtype":"F64","shape":[1],"data_offsets":[0,8]}`), 8))
	if unsupported := (*UnsupportedError)(nil); !errors.As(err, &unsupported) {
		t.Errorf("F64: Decode = %v, want an *UnsupportedError", err)
	}
}

// Hugging Face's own library wrote these files.
func TestRealFileIsWrittenAgainByteForByte(t *testing.T) {
	own := []string{"types.safetensors", "names.safetensors", "no-metadata.safetensors"}
	for i, name := range own {
		own[i] = "convert/safetensors/testdata/" + name
	}
	shared := []string{"adapters/peft-gpt2-r8/adapter_model.safetensors"}
	need.Each(t, own, shared, func(t *testing.T, path string) {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got, err := rewrite(f)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("written again: %d bytes that differ from the %d of the file", len(got), len(want))
		}
	})
}

// What the library says of its files: names and numbers.
func TestRealFilesHoldWhatWasPutIn(t *testing.T) {
	f, err := Open(filepath.Join("testdata", "names.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if want := map[string]string{"note": "ünï \"code\"\n\U0001f600"}; !reflect.DeepEqual(f.Metadata(), want) {
		t.Errorf("metadata %q, want %q", f.Metadata(), want)
	}
	for name, want := range map[string]float32{`a "quoted" name`: 1, `back\slash`: 2, "Gewürz, 香辛料": 3, "tab\tand\x01control": 4} {
		data, err := f.Data(name)
		if err != nil || len(data) != 4 || math.Float32frombits(binary.LittleEndian.Uint32(data)) != want {
			t.Errorf("tensor %q = %x, %v, want %v", name, data, err, want)
		}
	}
}

func TestRealFilesOfOtherTypesAreUnsupported(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("testdata", "refused-*"))
	if err != nil || len(paths) != 5 {
		t.Fatalf("%d files, %v, want 5", len(paths), err)
	}
	for _, path := range paths {
		_, err := Open(path)
		if unsupported := (*UnsupportedError)(nil); !errors.As(err, &unsupported) || !strings.Contains(err.Error(), `"other"`) {
			t.Errorf("Open(%s) = %v, want an *UnsupportedError that names the tensor", path, err)
		}
	}
}

// mlx writes null where there is no metadata.
func TestMetadataMayBeNull(t *testing.T) {
	f, err := decode(file(`{"__metadata__":null,"x":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}`, 2))
	if err != nil || len(f.Metadata()) != 0 || len(f.Tensors()) != 1 {
		t.Errorf("decode = %v, want one tensor and no metadata", err)
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.safetensors")
	if err := os.WriteFile(path, []byte("short"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, dir} {
		if _, err := Open(p); err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("Open(%q) = %v, want an error with the path", p, err)
		}
	}
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open of nothing = %v, want %v", err, os.ErrNotExist)
	}
}

// A download may be replaced while it is read.
func TestFileThatBecomesShorter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, file(sample, 32), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, int64(len(sample))+8+20); err != nil {
		t.Fatal(err)
	}
	var format *FormatError
	if _, err := f.Data("h"); !errors.As(err, &format) || format.Path != path {
		t.Errorf("Data of a file cut short = %v, want a *FormatError with the path", err)
	}
}

func TestBuilderRefuses(t *testing.T) {
	bytesOf := func(n int) func() ([]byte, error) { return func() ([]byte, error) { return make([]byte, n), nil } }
	for name, fill := range map[string]func(b *Builder){
		"tensor twice":      func(b *Builder) { b.Add("x", F16, []int64{1}, bytesOf(2)); b.Add("x", F16, []int64{1}, bytesOf(2)) },
		"unknown type":      func(b *Builder) { b.Add("x", "F64", []int64{1}, bytesOf(8)) },
		"reserved name":     func(b *Builder) { b.Add(metadataKey, F16, []int64{1}, bytesOf(2)) },
		"name not in UTF-8": func(b *Builder) { b.Add("\xff", F16, []int64{1}, bytesOf(2)) },
		"negative shape":    func(b *Builder) { b.Add("x", F16, []int64{-1}, bytesOf(2)) },
		"huge shape":        func(b *Builder) { b.Add("x", F16, []int64{1 << 62, 4}, bytesOf(2)) },
		"too little data":   func(b *Builder) { b.Add("x", F16, []int64{2}, bytesOf(2)) },
		"source that fails": func(b *Builder) { b.Add("x", F16, nil, func() ([]byte, error) { return nil, io.ErrNoProgress }) },
	} {
		b := NewBuilder(nil)
		fill(b)
		if _, err := b.WriteTo(io.Discard); err == nil {
			t.Errorf("%s: WriteTo returned no error", name)
		}
	}
}

func TestPart(t *testing.T) {
	f, err := decode(file(sample, 32))
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Part("a<b>", 8, 12)
	if want := []byte{8, 9, 10, 11}; err != nil || !bytes.Equal(got, want) {
		t.Errorf("Part = %v, %v, want %v", got, err, want)
	}
	for _, r := range [][2]int64{{-1, 2}, {4, 2}, {0, 25}} {
		if _, err := f.Part("a<b>", r[0], r[1]); err == nil {
			t.Errorf("Part(%d, %d) of 24 bytes: no error", r[0], r[1])
		}
	}
}
