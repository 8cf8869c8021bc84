package kernels

// #include "gemm.h"
import "C"

import "github.com/go-skynet/go-llama.cpp/ggml"

// Scratch returns the memory in bytes that each thread takes from the kernels' pool to compute the node. Neither the node nor
// its operands need memory for the answer.
func Scratch(node ggml.Tensor) int64 {
	k := kernels[node.CustomFunc()]
	if k == nil || k.scratch == nil {
		return 0
	}
	return int64(C.ft_piece_bytes(C.size_t(k.scratch(native(node)))))
}

// Workspace returns the memory in bytes that b.Compute takes for g beside that of its tensors, and keeps: scratch memory, a piece
// for each thread, and ggml's own, of which there is one at a time. Each is as large as the largest node wants it.
func Workspace(b *ggml.Backend, g ggml.Graph) int64 {
	var scratch int64
	for i := range g.Len() {
		scratch = max(scratch, Scratch(g.Node(i)))
	}
	return int64(b.Threads())*scratch + b.Workspace(g)
}

// ScratchHeld returns the memory in bytes that the pool holds: each piece has grown to the largest that was asked of it.
func ScratchHeld() int64 { return int64(C.ft_scratch_held()) }

// Trim gives the pool's memory back to the system, and with it what the C library keeps (ggml.Trim). What is in use is not
// touched; the next graph takes its scratch memory anew.
func Trim() {
	C.ft_scratch_free()
	ggml.Trim()
}
