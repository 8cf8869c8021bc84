package graph

import (
	"cmp"
	"math"
	"slices"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// recomputeLevel says which results of the forward pass do not stay in memory until the backward pass reads them, but are
// computed again just before, from what does stay: activation checkpointing (arXiv 1604.06174).
//
// At 0 those are the cheap ones: norms, activations, rotations, attention scores; the products with weights and the sums
// of the residual stream stay. It costs a few per cent of a step. At n they are also everything within n segments of the
// forward pass, see segment: each costs its own forward pass once more.
type recomputeLevel int

const (
	recomputeNothing recomputeLevel = -1
	recomputeCheap   recomputeLevel = 0
	recomputeAll     recomputeLevel = math.MaxInt32
)

// value returns the result of forward node t for use in the backward pass: t itself if it is kept, else a repetition of it.
func (s *sweep) value(t ggml.Tensor) ggml.Tensor {
	if t.IsNil() || !s.recomputed[t] {
		return t
	}
	if again, ok := s.repeated[t]; ok {
		return again
	}
	again := s.repeat(t)
	s.repeated[t] = again
	return again
}

// repeat adds a second node that computes what t does.
func (s *sweep) repeat(t ggml.Tensor) ggml.Tensor {
	if p, ok := s.products[t]; ok {
		return p.linear.forward(s.ctx, p.w, s.value(p.x))
	}
	x := s.value(t.Src(0))
	ne := t.NE()
	switch t.Op() {
	case "RESHAPE":
		return s.ctx.Reshape(x, ne[:]...)
	case "VIEW":
		return s.ctx.View(x, ne, t.NB(), viewOffset(t))
	case "PERMUTE":
		return s.ctx.Permute(x, permutation(t))
	case "TRANSPOSE":
		return s.ctx.Transpose(x)
	case "CPY":
		return s.ctx.Cast(x, t.Type())
	}
	var src []ggml.Tensor
	for i := range ggml.MaxSrc {
		src = append(src, s.value(t.Src(i)))
	}
	return s.ctx.Like(t, ne, src...)
}

// chooseRecomputed decides which forward nodes are recomputed, and returns the number of segments that there are. Where it
// recomputes n of them it takes those that free the most memory for the work: attention before feed-forward networks.
func (s *sweep) chooseRecomputed(r recomputeLevel) (segments int) {
	s.recomputed, s.repeated = map[ggml.Tensor]bool{}, map[ggml.Tensor]ggml.Tensor{}
	lasting := s.lasting()
	all := s.segments(lasting)
	slices.SortStableFunc(all, func(a, b segment) int { return cmp.Compare(b.bytes*a.work, a.bytes*b.work) })
	for i, st := range all {
		for _, t := range st.nodes {
			switch {
			case i < int(r):
				s.recomputed[t] = t != st.end
			case r >= 0:
				s.recomputed[t] = s.cheap(t)
			}
		}
	}
	for t := range lasting {
		s.recomputed[t] = false
	}
	for _, p := range s.products {
		if !p.output.IsNil() {
			s.recomputed[p.output.Src(1)] = false // n_out numbers are not worth a node that computes them again
		}
	}
	return len(all)
}

// segment is a part of the forward pass between two points where only the residual stream is alive: half a block, mostly.
type segment struct {
	nodes []ggml.Tensor
	end   ggml.Tensor // the residual stream behind it; none for the last segment
	bytes float64     // that recomputing it frees
	work  float64     // multiply-adds a token that recomputing it takes
}

// segments cuts the forward pass.
func (s *sweep) segments(lasting map[ggml.Tensor]bool) []segment {
	cuts, summed := s.cuts(lasting), s.onlySummed()
	all := []segment{{work: 1}}
	for _, t := range s.order {
		last := &all[len(all)-1]
		last.nodes = append(last.nodes, t)
		if p, ok := s.products[t]; ok && !summed[t] {
			last.work += float64(p.w.Elements())
		}
		if cuts[t] {
			last.end = t
			all = append(all, segment{work: 1})
			continue
		}
		if !s.cheap(t) && !summed[t] && !lasting[t] {
			last.bytes += float64(t.Bytes())
		}
	}
	return all
}

// onlySummed returns the nodes that only sums read: the backward pass does without their values.
func (s *sweep) onlySummed() map[ggml.Tensor]bool {
	summed := map[ggml.Tensor]bool{}
	for _, t := range s.order {
		for _, src := range s.reads(t) {
			if _, seen := summed[src]; t.Op() != "ADD" {
				summed[src] = false
			} else if !seen {
				summed[src] = true
			}
		}
	}
	return summed
}

// cheap reports whether computing t again costs little beside a product with a weight.
func (s *sweep) cheap(t ggml.Tensor) bool {
	if _, ok := s.products[t]; ok {
		return false
	}
	switch nameOf(t) {
	case "MUL_MAT", batchMul: // the scores of attention are larger than what they are made of
		return t.Elements() > t.Src(0).Elements()+t.Src(1).Elements()
	case "ADD": // a bias is cheap, a residual sum is where repetitions end
		return t.Src(0).IsLeaf() || t.Src(1).IsLeaf()
	case "GET_ROWS", attention, deltaNet:
		return false
	}
	return true
}

// lastReads returns the index of the last reader of each node that owns memory.
func (s *sweep) lastReads() map[ggml.Tensor]int {
	last := map[ggml.Tensor]int{}
	for i, t := range s.order {
		for _, src := range s.reads(t) {
			last[root(src)] = i
		}
	}
	return last
}

// blockNodes is more than any tensor of a block is read later, in nodes: of those in the tests none is above 46.
const blockNodes = 64

// lasting returns the nodes that are read beyond their own block: what Gemma 4 embeds for each layer, K and V that layers share,
// embeddings that are added to each. They are few, stay in memory, and do not count against a cut.
func (s *sweep) lasting() map[ggml.Tensor]bool {
	last, lasting := s.lastReads(), map[ggml.Tensor]bool{}
	for i, t := range s.order {
		if t == root(t) && last[t]-i > blockNodes {
			lasting[t] = true
		}
	}
	return lasting
}

// cuts returns the nodes behind which nothing of the forward pass is alive but what lasts: no later node reads what is older.
func (s *sweep) cuts(lasting map[ggml.Tensor]bool) map[ggml.Tensor]bool {
	last := s.lastReads()
	cuts := map[ggml.Tensor]bool{}
	alive := map[ggml.Tensor]bool{}
	for i, t := range s.order {
		if t == root(t) && !lasting[t] {
			alive[t] = true
		}
		for a := range alive {
			if last[a] <= i && a != t {
				delete(alive, a)
			}
		}
		if len(alive) == 1 && alive[t] {
			cuts[t] = true
		}
	}
	return cuts
}

// reads returns the forward nodes and leaves that t is computed from.
func (s *sweep) reads(t ggml.Tensor) (src []ggml.Tensor) {
	if p, ok := s.products[t]; ok {
		return []ggml.Tensor{p.x}
	}
	for i := range ggml.MaxSrc {
		if x := t.Src(i); !x.IsNil() && x != t {
			src = append(src, x)
		}
	}
	return src
}

// root returns the tensor whose memory t is a view of, t itself if it is none.
func root(t ggml.Tensor) ggml.Tensor {
	if r := t.ViewSrc(); !r.IsNil() {
		return r
	}
	return t
}
