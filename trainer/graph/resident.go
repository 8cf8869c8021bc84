package graph

import (
	"slices"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/llama"
)

// The weights of the base are mapped pages of its file: clean, shared, and back when they are touched. Where memory is
// short the graph runs in sections, and after each the weights that it read are paged out. A page that is still in the
// system's file cache takes a fraction of a microsecond to map again, and each weight is read a few times a step, for all
// tokens at once: far less than recomputing anything. On a machine whose memory is really full the pages come from the
// disk, as they would if the system had chosen them.

// section is a range [from, to) of a graph's nodes that is computed in one go on one side, and the weights that it reads.
// Copies from the other side come first.
type section struct {
	from, to int
	at       place
	weights  []ggml.Tensor
	windows  map[uintptr]bool // llama.WindowBytes of file each, that reading the weights may bring into memory
}

func newSection(from, to int) section {
	return section{from: from, to: to, windows: map[uintptr]bool{}}
}

// bytes returns the most memory that the weights of the section take.
func (p *section) bytes() int64 { return int64(len(p.windows)) * llama.WindowBytes }

// sections cuts nodes [from, to) of a graph into as few sections as keep the weights of each within limit bytes; a single
// node may read more. 0 = no limit.
func sections(g placed, from, to int, limit int64) []section {
	var all []section
	p := newSection(from, to)
	for i := from; i < to; i++ {
		weights := weightsOf(g.graph.Node(i))
		full := limit > 0 && len(p.weights) > 0 && p.bytesWith(weights) > limit
		if full || i > p.from && (g.place(i) != p.at || isCopy(g.graph.Node(i)) && !isCopy(g.graph.Node(i-1))) {
			p.to = i
			all = append(all, p)
			p = newSection(i, to)
		}
		p.at = g.place(i)
		p.add(weights)
	}
	return append(all, p)
}

// weightsOf returns the weights that a node reads.
func weightsOf(node ggml.Tensor) (weights []ggml.Tensor) {
	for i := range ggml.MaxSrc {
		src := node.Src(i)
		if src.IsNil() {
			continue
		}
		if w := root(src); w.IsLeaf() && w.IsWeight() && w.OnHost() && !slices.Contains(weights, w) {
			weights = append(weights, w)
		}
	}
	return weights
}

// bytesWith returns what bytes would be with these weights added.
func (p *section) bytesWith(weights []ggml.Tensor) int64 {
	more := map[uintptr]bool{}
	for _, w := range weights {
		first, end := llama.WeightWindows(w)
		for i := first; i < end; i++ {
			if !p.windows[i] {
				more[i] = true
			}
		}
	}
	return p.bytes() + int64(len(more))*llama.WindowBytes
}

func (p *section) add(weights []ggml.Tensor) {
	for _, w := range weights {
		if slices.Contains(p.weights, w) {
			continue
		}
		p.weights = append(p.weights, w)
		first, end := llama.WeightWindows(w)
		for i := first; i < end; i++ {
			p.windows[i] = true
		}
	}
}

// sections cuts a step: the body's two passes by the limit, and the head, which is one section.
func (e *Engine) sections(limit int64) (forward, head, reverse []section) {
	return sections(e.placed, 0, e.forwardLen, limit), sections(e.head.placed, 0, e.head.graph.Len(), 0), sections(e.placed, e.forwardLen, e.graph.Len(), limit)
}

// largestSection returns the bytes of weights of the largest section of a step under a limit.
func (e *Engine) largestSection(limit int64) (largest int64) {
	forward, head, reverse := e.sections(limit)
	for _, p := range slices.Concat(forward, head, reverse) {
		largest = max(largest, p.bytes())
	}
	return largest
}

// allWeights returns the weights that a step reads.
func (e *Engine) allWeights() (all []ggml.Tensor) {
	forward, head, reverse := e.sections(0)
	for _, p := range slices.Concat(forward, head, reverse) {
		all = append(all, p.weights...)
	}
	return all
}

// SetResidentWeights bounds the bytes of the base's weights that are in memory at once, by paging them out between their
// uses. What one operation reads is the least; Sizes reports the result. Without it every weight that was read stays. Call
// it before Allocate.
func (e *Engine) SetResidentWeights(resident int64) {
	if e.resident = max(1, resident); !e.canPage || e.resident >= int64(e.model.Bytes()) {
		e.resident = 0
	}
}

// cutIntoRuns makes the runs of both passes and of the head.
func (e *Engine) cutIntoRuns() (err error) {
	forward, head, reverse := e.sections(e.resident)
	if e.forward, err = newRuns(e.placed, forward); err != nil {
		return err
	}
	if e.reverse, err = newRuns(e.placed, reverse); err != nil {
		return err
	}
	if e.resident > 0 {
		for _, p := range head {
			e.paged = append(e.paged, p.weights...)
		}
		for _, part := range []struct {
			runs   []run
			pieces []section
		}{{e.forward, forward}, {e.reverse, reverse}} {
			for i, p := range part.pieces {
				part.runs[i].paged = p.weights
			}
		}
	}
	return e.head.cutIntoRuns()
}

// compute computes the runs of the body in order.
func (e *Engine) compute(runs []run) error {
	return e.sides.compute(runs, func(r run) {
		e.model.DropWeights(r.paged)
	})
}
