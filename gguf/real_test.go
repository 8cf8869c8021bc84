package gguf

import (
	"bytes"
	"path/filepath"
	"reflect"
	"testing"

	"finetune/internal/need"
)

// The demo's base and models made by llama.cpp's own tools keep all that they hold when they are written again.
func TestRealFilesSurviveRewriting(t *testing.T) {
	shared := []string{"models/all-minilm-l6-v2-f16.gguf", "models/stories260K-f16.gguf", "models/stories260K-f32.gguf", "models/stories260K-q8_0.gguf",
		"tokenizers/ggml-vocab-gpt-2.gguf", "tokenizers/ggml-vocab-llama-spm.gguf", "tokenizers/ggml-vocab-phi-3.gguf"}
	need.Each(t, []string{"demo/base.gguf"}, shared, func(t *testing.T, path string) {
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
