package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writePart writes part no, from 0 on, of count with one tensor named after its number.
func writePart(t *testing.T, path string, no, count uint16, edit func(b *Builder)) {
	t.Helper()
	b := NewBuilder()
	if no == 0 {
		b.Set(keyArchitecture, "llama")
	}
	b.Set(keySplitNo, no)
	b.Set(keySplitCount, count)
	b.Set(keySplitTensors, int32(count))
	if edit != nil {
		edit(b)
	}
	name := fmt.Sprintf("t%d", no)
	b.AddTensor(name, TypeI8, []int64{2}, []byte(name))
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
}

func partName(dir string, no, count int) string {
	return filepath.Join(dir, fmt.Sprintf("m-%05d-of-%05d.gguf", no+1, count))
}

func TestOpenFollowsSplits(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		writePart(t, partName(dir, i, 3), uint16(i), 3, nil)
	}
	f, err := Open(partName(dir, 0, 3))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(f.Paths()) != 3 || f.Paths()[2] != partName(dir, 2, 3) {
		t.Errorf("Paths() = %q, want the three parts", f.Paths())
	}
	if kvs := f.KVs(); len(kvs) != 1 || kvs[0].Key != keyArchitecture || f.Architecture() != "llama" {
		t.Errorf("KVs() = %v, want the architecture alone", kvs)
	}
	if v, ok := f.Get(keySplitNo); ok {
		t.Errorf("Get(%q) = %v, want nothing: it describes a part", keySplitNo, v)
	}
	for i := range 3 {
		name := fmt.Sprintf("t%d", i)
		if data, err := f.Data(name); err != nil || string(data) != name {
			t.Errorf("Data(%q) = %q, %v, want %q", name, data, err, name)
		}
	}
	joined, err := rewrite(f)
	if err != nil {
		t.Fatal(err)
	}
	g, err := decode(joined)
	if err != nil {
		t.Fatal(err)
	}
	sameContents(t, g, f)
}

func TestOpenRefusesBrokenSplits(t *testing.T) {
	tests := []struct {
		name  string
		build func(dir string) (open string)
		want  any
		msg   string
	}{
		{"missing part", func(dir string) string {
			writePart(t, partName(dir, 0, 2), 0, 2, nil)
			return partName(dir, 0, 2)
		}, new(*fs.PathError), "m-00002-of-00002.gguf"},
		{"later part", func(dir string) string {
			writePart(t, partName(dir, 1, 2), 1, 2, nil)
			return partName(dir, 1, 2)
		}, new(*UnsupportedError), `part 2 of 2; open the first one, "@m-00001-of-00002.gguf"`},
		{"renamed part", func(dir string) string {
			writePart(t, filepath.Join(dir, "m.gguf"), 0, 2, nil)
			return filepath.Join(dir, "m.gguf")
		}, new(*UnsupportedError), "does not end in -00001-of-00002.gguf"},
		{"name with another count", func(dir string) string {
			writePart(t, partName(dir, 0, 3), 0, 2, nil)
			return partName(dir, 0, 3)
		}, new(*FormatError), "named as one of 3 parts"},
		{"name with another number", func(dir string) string {
			writePart(t, partName(dir, 1, 3), 0, 3, nil)
			return partName(dir, 1, 3)
		}, new(*FormatError), "named as part 00002"},
		{"parts swapped", func(dir string) string {
			writePart(t, partName(dir, 0, 3), 0, 3, nil)
			writePart(t, partName(dir, 1, 3), 2, 3, nil)
			return partName(dir, 0, 3)
		}, new(*FormatError), "say 2 and 3, want 1 and 3"},
		{"part that is no part", func(dir string) string {
			writePart(t, partName(dir, 0, 2), 0, 2, nil)
			if err := NewBuilder().WriteFile(partName(dir, 1, 2)); err != nil {
				t.Fatal(err)
			}
			return partName(dir, 0, 2)
		}, new(*FormatError), "say -1 and -1"},
		{"tensor in two parts", func(dir string) string {
			writePart(t, partName(dir, 0, 3), 0, 3, nil)
			writePart(t, partName(dir, 1, 3), 1, 3, nil)
			writePart(t, partName(dir, 2, 3), 2, 3, func(b *Builder) { b.AddTensor("t1", TypeI8, []int64{1}, []byte{1}) })
			return partName(dir, 0, 3)
		}, new(*FormatError), `tensor "t1": is in two parts`},
		{"tensor missing", func(dir string) string {
			writePart(t, partName(dir, 0, 2), 0, 2, func(b *Builder) { b.Set(keySplitTensors, int32(5)) })
			writePart(t, partName(dir, 1, 2), 1, 2, nil)
			return partName(dir, 0, 2)
		}, new(*FormatError), "hold 2 tensors"},
		{"count as string", func(dir string) string {
			writePart(t, partName(dir, 0, 2), 0, 2, func(b *Builder) { b.Set(keySplitCount, "2") })
			return partName(dir, 0, 2)
		}, new(*FormatError), "a string, want a whole number"},
		{"truncated part", func(dir string) string {
			writePart(t, partName(dir, 0, 2), 0, 2, nil)
			if err := os.WriteFile(partName(dir, 1, 2), []byte("GGUF\x03\x00"), 0o600); err != nil {
				t.Fatal(err)
			}
			return partName(dir, 0, 2)
		}, new(*TruncatedError), "m-00002-of-00002.gguf"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Open(tt.build(dir))
			msg := strings.Replace(tt.msg, "@", dir+string(filepath.Separator), 1)
			if err == nil || !errors.As(err, tt.want) || !strings.Contains(err.Error(), msg) {
				t.Errorf("Open = %v (%T), want %T that says %q", err, err, tt.want, msg)
			}
		})
	}
}
