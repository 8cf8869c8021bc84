package graph

import (
	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Sizes is the memory of an Engine in bytes, by what it is for.
type Sizes struct {
	Weights      int64 // of the base, in memory at once
	LeastWeights int64 // the least that SetResidentWeights can make of that
	Adapter      int64 // the trainable parameters, where the graph reads them
	Gradients    int64 // theirs, summed
	Activations  int64 // of the body, forward and backward
	Head         int64 // of the head, for a chunk of rows
	Workspace    int64 // beside the activations: scratch memory, descriptors, constants, mask templates and activation statistics
	Trace        int64 // llama.cpp's graph and its cache, until Allocate
}

// Work returns the memory that FitMemory limits, in bytes.
func (s Sizes) Work() int64 { return s.Activations + s.Head }

// bytesPerNode is what ggml's allocator keeps of a node beside its descriptor: where it and each operand lie (struct
// node_alloc: 11 places of 32 bytes), and its share of the hash tables of nodes, which are filled by at most four fifths
// (48 bytes an entry, ggml-alloc.c).
const bytesPerNode = 11*32 + 48*5/4

// Sizes returns the memory that Allocate will take or has taken. Nothing in it is an estimate: ggml's allocator has laid
// out the graph, and each kernel reports its scratch memory.
func (e *Engine) Sizes() Sizes {
	s := Sizes{
		Weights: int64(e.model.Bytes()), Activations: e.backend.Measure(e.whole), Head: e.head.bytes, LeastWeights: int64(e.model.Bytes()),
		Workspace: max(kernels.Workspace(e.backend, e.whole), kernels.Workspace(e.backend, e.head.whole)) + e.descriptorBytes(), Trace: e.traceBytes(),
	}
	if e.alloc != nil {
		s.Activations = e.alloc.Bytes() // the graph has its memory and cannot be measured again
	}
	if e.canPage {
		s.LeastWeights = min(s.Weights, e.largestSection(1))
	}
	if e.resident > 0 {
		s.Weights = min(s.Weights, e.largestSection(e.resident))
	}
	for _, sum := range e.statisticsLeaves {
		s.Workspace += sum.Bytes()
	}
	for _, c := range e.constants {
		s.Workspace += 2 * c.leaf.Bytes() // where it comes from too
	}
	for _, p := range e.params {
		s.Adapter += p.leaf.Bytes()
		s.Gradients += p.total.Bytes()
	}
	return s
}

// descriptorBytes returns the memory of the graphs themselves: descriptors, the allocator's tables, and templates of inputs.
func (e *Engine) descriptorBytes() int64 {
	n := e.body.ctx.Used() + e.head.ctx.Used() + bytesPerNode*int64(e.whole.Len()+e.head.whole.Len())
	for _, in := range e.inputs {
		n += 4 * int64(len(in.ints)+len(in.maskTemplate))
	}
	return n
}

// traceBytes returns the memory of llama.cpp's context that a trace touches: its cache, which it clears, the inputs, and
// the zero adapter.
func (e *Engine) traceBytes() (bytes int64) {
	if e.trace == nil {
		return 0
	}
	counted := map[ggml.Tensor]bool{}
	for _, node := range e.trace.nodes {
		for i := range ggml.MaxSrc {
			src := node.Src(i)
			if src.IsNil() {
				continue
			}
			if leaf := root(src); leaf.IsLeaf() && !leaf.IsWeight() && !counted[leaf] {
				counted[leaf] = true
				bytes += leaf.Bytes()
			}
		}
	}
	return bytes
}

// WorkBytes returns the memory of the activations and their gradients, of body and head, in bytes.
func (e *Engine) WorkBytes() int64 { return e.Sizes().Work() }

// Segments returns how many segments of the forward pass are recomputed for the backward pass, and how many there are.
func (e *Engine) Segments() (recomputed, all int) {
	return min(max(0, int(e.recompute)), e.segments), e.segments
}

// FitMemory rebuilds the body so that it recomputes as little as a limit on work memory allows, in bytes; where even
// recomputeAll needs more, it recomputes all. Call it before Allocate.
func (e *Engine) FitMemory(limit int64) error {
	if e.keepAll || e.workOf(e.body) <= limit {
		return nil
	}
	all := e.segments
	for low, high := int(e.recompute)+1, all; low <= high; {
		n := (low + high) / 2
		b, err := e.make(recomputeLevel(n))
		if err != nil {
			return err
		}
		fits := e.workOf(b) <= limit
		if !fits && n < all {
			b.close()
			low = n + 1
			continue
		}
		e.body.close()
		e.body = b
		if !fits {
			break
		}
		high = n - 1
	}
	return nil
}

// workOf returns the work memory of the engine with this body, in bytes.
func (e *Engine) workOf(b *body) int64 { return e.backend.Measure(b.whole) + e.head.bytes }
