package graph

import (
	"math"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// y = (x − mean(x))/r by rows of n, r = √(variance(x) + ε):
//
//	dx = (dy − mean(dy) − y·mean(dy ⊙ y))/r, exact with ε, because x − mean(x) = r·y
func vjpNorm(s *sweep, t, dy ggml.Tensor) error {
	x := t.Src(0)
	if !s.needs[x] {
		return nil
	}
	if s.ops.native {
		s.addGrad(x, kernels.NormBack(s.ctx, s.cont(s.value(x)), s.cont(dy), t.ParamF(0)))
		return nil
	}
	c, n := s.ctx, float32(x.NE()[0])
	mean := func(v ggml.Tensor) ggml.Tensor { return c.Scale(c.SumRows(v), 1/n) }
	dy, x = s.cont(dy), s.cont(s.value(x))
	y := s.value(t)
	variance := mean(c.Sqr(c.Sub(x, mean(x))))
	r := c.Sqrt(c.ScaleBias(variance, 1, t.ParamF(0)))
	dx := c.Sub(c.Sub(dy, mean(dy)), c.Mul(y, mean(c.Mul(dy, y))))
	s.addGrad(t.Src(0), c.Div(dx, r))
	return nil
}

// addSinksGrad adds to the gradient of attention sinks [n_head]. A sink takes part in the softmax of each row of its head and
// gets the share y₀ = 1 − Σ y, which nobody reads: its gradient is −y₀·Σ dy ⊙ y, for y and dy [n_kv, T, n_head, S].
func (s *sweep) addSinksGrad(sinks, y, dy ggml.Tensor) {
	c, ne := s.ctx, y.NE()
	share := c.ScaleBias(c.SumRows(y), -1, 1)
	d := c.Neg(c.Mul(c.SumRows(c.Mul(dy, y)), share))
	heads := c.SumRows(c.Reshape(d, ne[1], ne[2]*ne[3]))
	s.addSumGrad(sinks, c.Reshape(heads, ne[2], ne[3]), ggml.Tensor{})
}

// y = x/r by rows, r = max(‖x‖, ε): dx = (dy − y·Σ dy ⊙ y)/r, and dy/r where ε is the larger one, a constant.
func vjpL2Norm(s *sweep, t, dy ggml.Tensor) error {
	x := t.Src(0)
	if !s.needs[x] {
		return nil
	}
	c, eps, y := s.ctx, t.ParamF(0), s.value(t)
	dy = s.cont(dy)
	r := c.Clamp(c.Sqrt(c.SumRows(c.Sqr(s.cont(s.value(x))))), eps, float32(math.Inf(1)))
	longer := c.Step(c.ScaleBias(r, 1, -eps))
	dot := c.Mul(c.SumRows(c.Mul(dy, y)), longer)
	s.addGrad(x, c.Div(c.Sub(dy, c.Mul(y, dot)), r))
	return nil
}
