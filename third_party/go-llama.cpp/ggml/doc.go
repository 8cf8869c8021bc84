// Package ggml is the thin Go face of ggml's public C interface: tensors, the operations that a training graph is built
// from, graphs, and the backends that run them. Operations of others go into the same graphs as custom operations
// (Context.Custom).
//
// A graph is described in a Context, given memory, filled, and computed, as the example does. Names are ggml's own, without
// the prefix: ggml_mul_mat is Context.MulMat. Shapes are in ggml's order, fastest dimension first. Operations check their
// shapes inside ggml, which aborts the process on a mismatch: a mismatch is a bug of the caller, never a matter of user
// input.
//
// A Context, and every Tensor and Graph made from it, belongs to one goroutine at a time.
package ggml

// #cgo pkg-config: llama
import "C"
