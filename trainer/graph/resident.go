package graph

import (
	"slices"

	"github.com/go-skynet/go-llama.cpp/ggml"
	"github.com/go-skynet/go-llama.cpp/llama"
)

// The weights of the base are pages of its file: clean, shared, and there again when they are touched. Where memory is
// short the graph runs in pieces, and behind each the weights that it read are let go. A page that is still in the
// system's file cache costs a fraction of a microsecond to map again, and each weight is read a few times a step, for all
// tokens at once: far less than forming anything again. On a machine whose memory is really full the pages come from the
// disk, as they would without an order to let them go.

// piece is a range of a graph's nodes that is computed in one go, and the weights that it reads.
type piece struct {
	from, to int
	weights  []ggml.Tensor
	windows  map[uintptr]bool // that reading them may bring into memory
}

func newPiece(from, to int) piece { return piece{from: from, to: to, windows: map[uintptr]bool{}} }

// bytes is the most memory that the weights of the piece take.
func (p *piece) bytes() int64 { return int64(len(p.windows)) * llama.WindowBytes }

// pieces cuts nodes [from, to) of a graph where the weights read since the last cut would be above the limit; those of a
// single node may be. 0 = no limit.
func pieces(g ggml.Graph, from, to int, limit int64) []piece {
	var all []piece
	p := newPiece(from, to)
	for i := from; i < to; i++ {
		weights := weightsOf(g.Node(i))
		if limit > 0 && len(p.weights) > 0 && p.with(weights) > limit {
			p.to = i
			all = append(all, p)
			p = newPiece(i, to)
		}
		p.add(weights)
	}
	return append(all, p)
}

// weightsOf are the weights that a node reads.
func weightsOf(node ggml.Tensor) (weights []ggml.Tensor) {
	for i := range ggml.MaxSrc {
		src := node.Src(i)
		if src.IsNil() {
			continue
		}
		if w := root(src); w.IsLeaf() && w.IsWeight() && !slices.Contains(weights, w) {
			weights = append(weights, w)
		}
	}
	return weights
}

// with is what bytes would be with these weights besides.
func (p *piece) with(weights []ggml.Tensor) int64 {
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

func (p *piece) add(weights []ggml.Tensor) {
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

// cuts are the pieces of a step: of the body's two passes, and the head, which is one.
func (e *Engine) cuts(limit int64) (forward, head, reverse []piece) {
	return pieces(e.whole, 0, e.ahead, limit), pieces(e.head.whole, 0, e.head.whole.Len(), 0), pieces(e.whole, e.ahead, e.whole.Len(), limit)
}

// mostOf is the largest piece of a step under a limit, in bytes of weights.
func (e *Engine) mostOf(limit int64) (most int64) {
	forward, head, reverse := e.cuts(limit)
	for _, p := range slices.Concat(forward, head, reverse) {
		most = max(most, p.bytes())
	}
	return most
}

// allOf are the weights that a step reads.
func (e *Engine) allOf() (all []ggml.Tensor) {
	forward, head, reverse := e.cuts(0)
	for _, p := range slices.Concat(forward, head, reverse) {
		all = append(all, p.weights...)
	}
	return all
}

// LetGo keeps at most so many bytes of the base's weights in memory at once, as far as that can be; Sizes says what came of
// it. Without it, all that were read stay. It is called before Allocate.
func (e *Engine) LetGo(resident int64) {
	if e.resident = max(1, resident); !e.canDrop || e.resident >= int64(e.model.Bytes()) {
		e.resident = 0
	}
}

// run is a piece of the body that is ready to compute.
type run struct {
	ctx   *ggml.Context
	graph ggml.Graph
	drops []ggml.Tensor // weights that are let go behind it
}

func (r run) close() { r.ctx.Close() }

// arrange makes the runs of both passes.
func (e *Engine) arrange() error {
	forward, head, reverse := e.cuts(e.resident)
	if e.resident > 0 {
		e.drops = head[0].weights
	}
	for _, part := range []struct {
		pieces []piece
		runs   *[]run
	}{{forward, &e.forward}, {reverse, &e.reverse}} {
		for _, p := range part.pieces {
			ctx, err := ggml.NewContext(max(1, p.to-p.from), 1)
			if err != nil {
				return err
			}
			r := run{ctx: ctx, graph: ctx.Part(e.whole, p.from, p.to)}
			if e.resident > 0 {
				r.drops = p.weights
			}
			*part.runs = append(*part.runs, r)
		}
	}
	return nil
}

// compute runs the pieces in order.
func (e *Engine) compute(runs []run) error {
	for _, r := range runs {
		if err := e.backend.Compute(r.graph); err != nil {
			return err
		}
		e.model.DropWeights(r.drops)
	}
	return nil
}
