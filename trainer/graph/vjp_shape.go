package graph

import (
	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Rules of the operations that move elements, repeat them or sum them.

// y has the elements of x in the same order: so has dx those of dy.
func vjpReshape(s *sweep, t, dy ggml.Tensor) error {
	s.addReshapedGrad(t.Src(0), dy)
	return nil
}

func (s *sweep) addReshapedGrad(x, dy ggml.Tensor) {
	if s.needs[x] {
		ne := x.NE()
		s.addGrad(x, s.ctx.Reshape(s.cont(dy), ne[:]...))
	}
}

// y is a window on x: dx is dy in that window and zero elsewhere. Windows on the same x (a fused QKV) share one sum. A
// window on a scattered window (the heads of a fused Q, cut into sequences) is one on the whole that both show.
func vjpView(s *sweep, t, dy ggml.Tensor) error {
	x := t.Src(0)
	if nameOf(x) == attention { // its result
		s.addGrad(x, dy)
		return nil
	}
	for !x.IsContiguous() && (x.Op() == "VIEW" || x.Op() == "PERMUTE" || x.Op() == "TRANSPOSE") {
		x = x.Src(0)
	}
	if !s.needs[x] {
		return nil
	}
	if !x.IsContiguous() || x.Type() != ggml.F32 || t.NB()[0] != 4 {
		return s.unsupported(t, "a view of scattered elements has no derivative rule")
	}
	if total, ok := s.totals[x]; ok {
		window := s.ctx.View(total, t.NE(), t.NB(), offsetIn(t, x))
		s.addNode(x, s.ctx.AddInPlace(window, s.cont(dy)))
		return nil
	}
	if x.Elements() == t.Elements() && t.IsContiguous() {
		s.addReshapedGrad(x, dy)
		return nil
	}
	base, ok := s.grads[x]
	if !ok {
		ne := x.NE()
		base = s.ctx.Fill(s.ctx.NewTensor(ggml.F32, ne[:]...), 0) // of x only the shape is wanted, not the memory
	}
	nb := t.NB()
	s.grads[x] = s.ctx.Acc(s.cont(base), s.cont(dy), nb[1], nb[2], nb[3], offsetIn(t, x))
	return nil
}

// y has x's axes in another order: dx has dy's put back.
func vjpPermute(s *sweep, t, dy ggml.Tensor) error {
	var inverse [4]int
	for i, axis := range permutation(t) {
		inverse[axis] = i
	}
	s.addGrad(t.Src(0), s.ctx.Permute(dy, inverse))
	return nil
}

func vjpTranspose(s *sweep, t, dy ggml.Tensor) error {
	s.addGrad(t.Src(0), s.ctx.Transpose(dy))
	return nil
}

// y is a and b one after the other along a dimension: da and db are the two parts of dy.
func vjpConcat(s *sweep, t, dy ggml.Tensor) error {
	a, b, dim := t.Src(0), t.Src(1), t.Param(0)
	dy = s.cont(dy)
	part := func(x ggml.Tensor, offset int64) ggml.Tensor {
		return s.cont(s.ctx.View(dy, x.NE(), dy.NB(), offset))
	}
	if s.needs[a] {
		s.addGrad(a, part(a, 0))
	}
	if s.needs[b] {
		s.addGrad(b, part(b, a.NE()[dim]*dy.NB()[dim]))
	}
	return nil
}

// y is x, tiled: dx = Σ dy over the tiles.
func vjpRepeat(s *sweep, t, dy ggml.Tensor) error {
	if x := t.Src(0); s.needs[x] {
		s.addGrad(x, s.reduce(dy, x))
	}
	return nil
}

// y [1, m] = Σ x over the rows of x [n, m]: dx = dy in every element of the row.
func vjpSumRows(s *sweep, t, dy ggml.Tensor) error {
	if x := t.Src(0); s.needs[x] {
		s.addGrad(x, s.ctx.Repeat(s.cont(dy), x))
	}
	return nil
}

// y [n, N] is the rows ids of a table x [n, m]: row ids[i] of dx is Σ dy[i]. It is for tables that are trained.
func vjpGetRows(s *sweep, t, dy ggml.Tensor) error {
	x, ids := t.Src(0), t.Src(1)
	if !s.needs[x] {
		return nil
	}
	if ne := x.NE(); ne[2] != 1 || ne[3] != 1 {
		return s.unsupported(t, "rows of several tables have no derivative rule")
	}
	dy = s.cont(dy)
	if total, ok := s.totals[x]; ok && s.ops.native {
		s.addNode(x, kernels.AddRows(s.ctx, total, dy, ids))
		return nil
	}
	s.addGrad(x, s.ctx.GetRowsBack(dy, ids, x))
	return nil
}

// y = Σ x / n: dx = dy / n.
func vjpMean(s *sweep, t, dy ggml.Tensor) error {
	n := float32(t.Src(0).NE()[0])
	return vjpSumRows(s, t, s.ctx.Scale(s.cont(dy), 1/n))
}
