package gguf_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"finetune/gguf"
)

// Write a file, read it back, and copy it with one key changed.
func Example() {
	dir, err := os.MkdirTemp("", "gguf")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "tiny.gguf")

	b := gguf.NewBuilder()
	b.Set("general.architecture", "llama")
	b.Set("llama.rope.freq_base", float32(10000))
	b.AddTensor("output_norm.weight", gguf.TypeF32, []int64{2}, make([]byte, 8))
	if err := b.WriteFile(path); err != nil {
		log.Fatal(err)
	}

	f, err := gguf.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	for _, t := range f.Tensors() {
		fmt.Println(t.Name, t.Type, t.Shape, t.Bytes(), "bytes")
	}
	_, err = f.Uint("llama.block_count")
	fmt.Println(err != nil)

	changed := gguf.NewBuilder()
	changed.SetAll(f.KVs())
	changed.Set("llama.rope.freq_base", float32(500000))
	for _, t := range f.Tensors() {
		changed.CopyTensor(f, t.Name)
	}
	fmt.Println(changed.WriteFile(path))
	// Output:
	// output_norm.weight f32 [2] 8 bytes
	// true
	// <nil>
}
