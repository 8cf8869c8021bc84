package graph

import (
	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Sizes is the memory of an Engine in bytes, by what it is for.
type Sizes struct {
	Weights      int64 // of the base: what of it is in memory at once
	LeastWeights int64 // the least that LetGo can make of that
	Adapter      int64 // what is trained, where the graph reads it
	Gradients    int64 // its sums
	Activations  int64 // of the body, forward and backward
	Head         int64 // a chunk of logits and what belongs to it
	Workspace    int64 // beside the tensors: scratch memory, descriptors, constants, templates and statistics of the inputs
	Trace        int64 // llama.cpp's graph and its cache: while the engine is made, not when it runs
}

// Work is what Fit's limit is about.
func (s Sizes) Work() int64 { return s.Activations + s.Head }

// notes is what ggml's allocator keeps of a node beside its descriptor: where it and each operand lie (struct node_alloc:
// 11 places of 32 bytes), and its part of the tables by which nodes are found, which are filled by at most four fifths
// (48 bytes an entry, ggml-alloc.c).
const notes = 11*32 + 48*5/4

// Sizes is what Allocate will take or has taken. Nothing in it is an estimate: the allocator of ggml has laid out the
// graph, and each kernel says what it takes beside it.
func (e *Engine) Sizes() Sizes {
	s := Sizes{
		Weights: int64(e.model.Bytes()), Activations: e.backend.Measure(e.whole), Head: e.head.bytes, LeastWeights: int64(e.model.Bytes()),
		Workspace: max(kernels.Workspace(e.backend, e.whole), kernels.Workspace(e.backend, e.head.whole)) + e.described(), Trace: e.traced(),
	}
	if e.alloc != nil {
		s.Activations = e.alloc.Bytes() // the graph has its memory and cannot be measured again
	}
	if e.canDrop {
		s.LeastWeights = min(s.Weights, e.mostOf(1))
	}
	if e.resident > 0 {
		s.Weights = min(s.Weights, e.mostOf(e.resident))
	}
	for _, sum := range e.sums {
		s.Workspace += sum.Bytes()
	}
	for _, c := range e.fixed {
		s.Workspace += 2 * c.leaf.Bytes() // where it comes from too
	}
	for _, p := range e.params {
		s.Adapter += p.leaf.Bytes()
		s.Gradients += p.total.Bytes()
	}
	return s
}

// described is what the graphs take that are no numbers of a step.
func (e *Engine) described() int64 {
	n := e.body.ctx.Used() + e.head.ctx.Used() + notes*int64(e.whole.Len()+e.head.whole.Len())
	for _, in := range e.inputs {
		n += 4 * int64(len(in.ints)+len(in.floor))
	}
	return n
}

// traced is the memory of llama.cpp's context that is touched for a trace: its cache, which it clears, the inputs, and the
// zero adapter.
func (e *Engine) traced() (bytes int64) {
	if e.trace == nil {
		return 0
	}
	seen := map[ggml.Tensor]bool{}
	for _, node := range e.trace.nodes {
		for i := range ggml.MaxSrc {
			src := node.Src(i)
			if src.IsNil() {
				continue
			}
			if leaf := root(src); leaf.IsLeaf() && !leaf.IsWeight() && !seen[leaf] {
				seen[leaf] = true
				bytes += leaf.Bytes()
			}
		}
	}
	return bytes
}

// WorkBytes is the memory of the body's and the head's activations and gradients.
func (e *Engine) WorkBytes() int64 { return e.Sizes().Work() }

// Stretches is the number of stretches of the forward pass that are formed again, and how many there are.
func (e *Engine) Stretches() (again, all int) {
	return min(max(0, int(e.recompute)), e.stretches), e.stretches
}

// Fit makes the body that recomputes as little as a limit on work memory allows, in bytes; when even RecomputeAll needs
// more, it is that. It is called before Allocate.
func (e *Engine) Fit(limit int64) error {
	if e.held || e.workOf(e.body) <= limit {
		return nil
	}
	most := e.stretches
	for low, high := int(e.recompute)+1, most; low <= high; {
		n := (low + high) / 2
		b, err := e.make(Recompute(n))
		if err != nil {
			return err
		}
		fits := e.workOf(b) <= limit
		if !fits && n < most {
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

// workOf is the work memory of the engine with this body.
func (e *Engine) workOf(b *body) int64 { return e.backend.Measure(b.whole) + e.head.bytes }
