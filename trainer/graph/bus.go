package graph

import "github.com/go-skynet/go-llama.cpp/ggml"

// bus is what lies between the memory of the CPU and that of a device. It counts what crosses, and keeps the first error: behind it no
// tensor can be trusted, so whatever would return something computed returns that instead, and nothing has to be asked before.
type bus struct {
	moved  int64 // bytes
	failed error
}

// note counts bytes that crossed, or keeps why they did not.
func (b *bus) note(bytes int64, err error) {
	b.moved += bytes
	if b.failed == nil {
		b.failed = err
	}
}

// copy copies what a twin stands for into it.
func (b *bus) copy(twin ggml.Tensor) { b.note(twin.Bytes(), twin.Src(0).CopyTo(twin)) }

// zero sets a tensor to zero where it lies.
func (b *bus) zero(t ggml.Tensor) { b.note(0, t.Zero()) }
