package gguf

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// sharedData returns the folder with models made by llama.cpp's own tools, which
// lies beside the repository, and skips the test where there is none.
func sharedData(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if mod, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && strings.HasPrefix(string(mod), "module finetune\n") {
			data := filepath.Join(dir, "..", "shared", "data")
			if _, err := os.Stat(data); err != nil {
				t.Skip("no real models here: ", err)
			}
			return data
		}
	}
	t.Skip("not run from inside the module finetune")
	return ""
}

func TestRealFilesSurviveRewriting(t *testing.T) {
	data := sharedData(t)
	var paths []string
	for _, pattern := range []string{"models/*.gguf", "tokenizers/*.gguf"} {
		found, _ := filepath.Glob(filepath.Join(data, pattern))
		paths = append(paths, found...)
	}
	if len(paths) == 0 {
		t.Skipf("no .gguf files in %s", data)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			f, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			copied := filepath.Join(t.TempDir(), "copy.gguf")
			b := NewBuilder()
			b.SetAll(f.KVs())
			for _, tensor := range f.Tensors() {
				b.CopyTensor(f, tensor.Name)
			}
			if err := b.WriteFile(copied); err != nil {
				t.Fatal(err)
			}
			g, err := Open(copied)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			sameContents(t, g, f)
		})
	}
}

// sameContents compares metadata and tensors. Offsets may differ, the data may not.
func sameContents(t *testing.T, got, want *File) {
	t.Helper()
	if !reflect.DeepEqual(got.KVs(), want.KVs()) {
		t.Errorf("key-value pairs differ: %v, want %v", got.KVs(), want.KVs())
	}
	if len(got.Tensors()) != len(want.Tensors()) {
		t.Fatalf("%d tensors, want %d", len(got.Tensors()), len(want.Tensors()))
	}
	for i, w := range want.Tensors() {
		g := got.Tensors()[i]
		if g.Name != w.Name || g.Type != w.Type || !reflect.DeepEqual(g.Shape, w.Shape) {
			t.Errorf("tensor %d is %v, want %v", i, g, w)
			continue
		}
		gotData, err := got.Data(g.Name)
		if err != nil {
			t.Fatal(err)
		}
		wantData, err := want.Data(w.Name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(gotData, wantData) {
			t.Errorf("tensor %q: data differ", w.Name)
		}
	}
}
