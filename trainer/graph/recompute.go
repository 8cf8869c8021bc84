package graph

import "github.com/go-skynet/go-llama.cpp/ggml"

// Keep says which results of the forward pass stay in memory until the backward pass reads them. What is not kept is
// formed again, just before it is read, from what is.
type Keep int

const (
	// KeepProducts keeps the products with weights and the sums of the residual stream, and forms everything cheap
	// again: norms, activations, rotations, attention scores. It costs a few per cent of a step.
	KeepProducts Keep = iota
	// KeepResidual keeps only the points where nothing but the residual stream is alive, and computes each stretch
	// between two of them again: the least memory, for one more forward pass.
	KeepResidual
	// KeepEverything keeps every result.
	KeepEverything
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

// drop decides which forward nodes are not kept.
func (s *sweep) drop(keep Keep) {
	s.dropped, s.again = map[ggml.Tensor]bool{}, map[ggml.Tensor]ggml.Tensor{}
	var cuts map[ggml.Tensor]bool
	if keep == KeepResidual {
		cuts = s.cuts()
	}
	for _, t := range s.order {
		switch {
		case t.Op() == "CLAMP": // ggml clamps in place: there is no operand left to form it from
		case keep == KeepResidual:
			s.dropped[t] = !cuts[t]
		case keep == KeepProducts:
			s.dropped[t] = s.cheap(t)
		}
	}
	for _, t := range s.order {
		if t.Op() == "CLAMP" {
			s.dropped[t.Src(0)] = false
		}
	}
}

// cheap reports whether forming t again costs little beside a product with a weight.
func (s *sweep) cheap(t ggml.Tensor) bool {
	if _, ok := s.uses[t]; ok {
		return false
	}
	switch t.Op() {
	case "MUL_MAT": // the scores of attention are larger than what they are made of
		return t.Elements() > t.Src(0).Elements()+t.Src(1).Elements()
	case "ADD": // a bias is cheap, a residual sum is where repetitions end
		return t.Src(0).IsLeaf() || t.Src(1).IsLeaf()
	case "GET_ROWS":
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
