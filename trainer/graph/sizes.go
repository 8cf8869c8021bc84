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
	Mirrors      int64 // what a step brings from the device and to it: gradients, statistics, inputs, hidden states
	Device       DeviceSizes
}

// DeviceSizes is the memory of an Engine on its device in bytes; all zero without one.
type DeviceSizes struct {
	Weights     int64 // of the base's layers that are there
	Adapter     int64
	Gradients   int64
	Activations int64
	Head        int64
	Constants   int64 // constants, activation statistics, the numbers of rows
}

// Total returns the sum of the parts, in bytes.
func (s DeviceSizes) Total() int64 {
	return s.Weights + s.Adapter + s.Gradients + s.Activations + s.Head + s.Constants
}

// Work returns the memory that FitMemory limits, in bytes: that of the device, if there is one.
func (s Sizes) Work() int64 {
	if work := s.Device.Activations + s.Device.Head; work > 0 {
		return work
	}
	return s.Activations + s.Head
}

// bytesPerNode is what ggml's allocator keeps of a node beside its descriptor: where it and each operand lie (struct
// node_alloc: 11 places of 32 bytes), and its share of the hash tables of nodes, which are filled by at most four fifths
// (48 bytes an entry, ggml-alloc.c).
const bytesPerNode = 11*32 + 48*5/4

// Sizes returns the memory that Allocate will take or has taken. Nothing in it is an estimate: ggml's allocator has laid
// out the graph, and each kernel reports its scratch memory.
func (e *Engine) Sizes() Sizes {
	activations, head := e.bodyBytes(e.body), e.head.bytes
	s := Sizes{
		Weights: int64(e.model.Bytes()), LeastWeights: int64(e.model.Bytes()), Activations: activations[onCPU], Head: head[onCPU],
		Workspace: max(kernels.Workspace(e.backend, e.graph), kernels.Workspace(e.backend, e.head.graph)) + e.descriptorBytes(), Trace: e.traceBytes(),
		Device: DeviceSizes{Weights: e.homes.bytes(), Activations: activations[onDevice], Head: head[onDevice]},
	}
	if e.homes != nil {
		s.Weights = min(s.Weights, e.largestSection(0))
	}
	if e.canPage {
		s.LeastWeights = min(s.Weights, e.largestSection(1))
	}
	if e.resident > 0 {
		s.Weights = min(s.Weights, e.largestSection(e.resident))
	}
	for _, sum := range e.statisticsLeaves {
		e.addTo(&s.Workspace, &s.Device.Constants, sum)
	}
	for _, c := range e.constants {
		s.Workspace += c.leaf.Bytes() // where it comes from
		e.addTo(&s.Workspace, &s.Device.Constants, c.leaf)
	}
	for _, ops := range e.ops.at {
		if !ops.counting.IsNil() {
			e.addTo(&s.Workspace, &s.Device.Constants, ops.counting)
		}
	}
	for _, p := range e.params {
		e.addTo(&s.Adapter, &s.Device.Adapter, p.leaf)
		e.addTo(&s.Gradients, &s.Device.Gradients, p.total)
	}
	if e.homes != nil {
		ne := e.hidden.NE()
		s.Mirrors = s.Device.Gradients + s.Device.Constants + 2*4*ne[0]*ne[1] + 2*e.head.h.Bytes() + e.inputBytes()
	}
	return s
}

// addTo adds the bytes of a fixed leaf to those of the side where it lies.
func (e *Engine) addTo(cpu, device *int64, leaf ggml.Tensor) {
	if e.fixed[leaf] == onDevice {
		cpu = device
	}
	*cpu += leaf.Bytes()
}

// bodyBytes returns the memory of a body's activations on each side.
func (e *Engine) bodyBytes(b *body) [2]int64 {
	if e.alloc == nil || b != e.body {
		return e.measure(b.placed)
	}
	bytes := [2]int64{e.alloc.Bytes(), 0} // the graph has its memory and cannot be measured again
	if b.at != nil {
		bytes[onDevice] = e.alloc.BytesOn(int(onDevice))
	}
	return bytes
}

// inputBytes returns the bytes of the inputs of a batch.
func (e *Engine) inputBytes() (n int64) {
	for _, in := range e.inputs {
		n += in.leaf.Bytes()
	}
	return n
}

// descriptorBytes returns the memory of the graphs themselves: descriptors, the allocator's tables, and templates of inputs.
func (e *Engine) descriptorBytes() int64 {
	n := e.body.ctx.Used() + e.head.ctx.Used() + bytesPerNode*int64(e.graph.Len()+e.head.graph.Len())
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

// FitMemory rebuilds the body so that it recomputes as little as a limit on work memory, see Sizes.Work, allows, in bytes; where even
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

// workOf returns the work memory of the engine with this body, in bytes: on the device, if there is one.
func (e *Engine) workOf(b *body) int64 {
	bytes := e.bodyBytes(b)
	if e.homes != nil {
		return bytes[onDevice] + e.head.bytes[onDevice]
	}
	return bytes[onCPU] + e.head.bytes[onCPU]
}
