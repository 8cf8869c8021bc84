package graph

import (
	"cmp"
	"math"
	"slices"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Recompute says which results of the forward pass do not stay in memory until the backward pass reads them, but are
// formed again just before, from what does stay.
//
// At 0 it is what is cheap: norms, activations, rotations, attention scores; the products with weights and the sums of
// the residual stream stay. It costs a few per cent of a step. At n it is also all of n stretches between two points
// where nothing but the residual stream is alive: each costs its own forward pass.
type Recompute int

const (
	RecomputeNothing Recompute = -1
	RecomputeCheap   Recompute = 0
	RecomputeAll     Recompute = math.MaxInt32
)

// value is the result of forward node t for use in the backward pass: t itself if it is kept, else a repetition of it.
func (s *sweep) value(t ggml.Tensor) ggml.Tensor {
	if t.IsNil() || !s.dropped[t] {
		return t
	}
	if again, ok := s.again[t]; ok {
		return again
	}
	again := s.repeat(t)
	s.again[t] = again
	return again
}

// repeat makes node t once more, over values.
func (s *sweep) repeat(t ggml.Tensor) ggml.Tensor {
	if u, ok := s.uses[t]; ok {
		return u.term.forward(s.ctx, u.w, s.value(u.x))
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

// drop decides which forward nodes are formed again, and returns the number of stretches there are. Of n stretches it
// takes those that give the most memory for the work: attention's before those of feed-forward networks.
func (s *sweep) drop(r Recompute) (stretches int) {
	s.dropped, s.again = map[ggml.Tensor]bool{}, map[ggml.Tensor]ggml.Tensor{}
	all := s.stretches()
	slices.SortStableFunc(all, func(a, b stretch) int { return cmp.Compare(b.bytes*a.work, a.bytes*b.work) })
	for i, st := range all {
		for _, t := range st.nodes {
			switch {
			case i < int(r):
				s.dropped[t] = t != st.end
			case r >= 0:
				s.dropped[t] = s.cheap(t)
			}
		}
	}
	for _, u := range s.uses {
		if !u.output.IsNil() {
			s.dropped[u.output.Src(1)] = false // n_out numbers are not worth a node that forms them again
		}
	}
	return len(all)
}

// stretch is a part of the forward pass between two points where only the residual stream is alive.
type stretch struct {
	nodes []ggml.Tensor
	end   ggml.Tensor // the residual stream behind it; of the last stretch none
	bytes float64     // that dropping it frees
	work  float64     // multiply-adds a token that forming it again takes
}

// stretches cuts the forward pass.
func (s *sweep) stretches() []stretch {
	cuts, summed := s.cuts(), s.onlySummed()
	all := []stretch{{work: 1}}
	for _, t := range s.order {
		st := &all[len(all)-1]
		st.nodes = append(st.nodes, t)
		if u, ok := s.uses[t]; ok && !summed[t] {
			st.work += float64(u.w.Elements())
		}
		if cuts[t] {
			st.end = t
			all = append(all, stretch{work: 1})
			continue
		}
		if !s.cheap(t) && !summed[t] {
			st.bytes += float64(t.Bytes())
		}
	}
	return all
}

// onlySummed are the nodes that only sums read: the backward pass does without their values.
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

// cheap reports whether forming t again costs little beside a product with a weight.
func (s *sweep) cheap(t ggml.Tensor) bool {
	if _, ok := s.uses[t]; ok {
		return false
	}
	switch nameOf(t) {
	case "MUL_MAT", batchMul: // the scores of attention are larger than what they are made of
		return t.Elements() > t.Src(0).Elements()+t.Src(1).Elements()
	case "ADD": // a bias is cheap, a residual sum is where repetitions end
		return t.Src(0).IsLeaf() || t.Src(1).IsLeaf()
	case "GET_ROWS", attention:
		return false
	}
	return true
}

// cuts are the nodes after which nothing else of the forward pass is alive.
func (s *sweep) cuts() map[ggml.Tensor]bool {
	last := map[ggml.Tensor]int{} // node that owns memory → index of its last reader
	for i, t := range s.order {
		for _, src := range s.reads(t) {
			last[root(src)] = i
		}
	}
	cuts := map[ggml.Tensor]bool{}
	alive := map[ggml.Tensor]bool{}
	for i, t := range s.order {
		if t == root(t) {
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

// reads are the forward nodes and leaves that t is computed from.
func (s *sweep) reads(t ggml.Tensor) (src []ggml.Tensor) {
	if u, ok := s.uses[t]; ok {
		return []ggml.Tensor{u.x}
	}
	for i := range ggml.MaxSrc {
		if x := t.Src(i); !x.IsNil() && x != t {
			src = append(src, x)
		}
	}
	return src
}

// root is the tensor whose memory t shows.
func root(t ggml.Tensor) ggml.Tensor {
	if r := t.ViewSrc(); !r.IsNil() {
		return r
	}
	return t
}
