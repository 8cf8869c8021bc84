package graph

import (
	"math"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// slope is the derivative f'(x) of y = f(x), element by element. It may make use of either.
type slope func(c *ggml.Context, x, y ggml.Tensor) ggml.Tensor

// y = f(x): dx = dy ⊙ f'(x).
func vjpUnary(f slope) rule {
	return func(s *sweep, t, dy ggml.Tensor) error {
		if x := t.Src(0); s.needs[x] {
			s.addGrad(x, s.ctx.Mul(s.cont(dy), f(s.ctx, s.cont(s.value(x)), s.value(t))))
		}
		return nil
	}
}

// y = −x: dx = −dy.
func vjpNeg(s *sweep, t, dy ggml.Tensor) error {
	s.addGrad(t.Src(0), s.ctx.Neg(s.cont(dy)))
	return nil
}

func slopeSqr(c *ggml.Context, x, _ ggml.Tensor) ggml.Tensor  { return c.Scale(x, 2) }
func slopeSqrt(c *ggml.Context, _, y ggml.Tensor) ggml.Tensor { return c.Div(c.Fill(y, 0.5), y) }
func slopeExp(_ *ggml.Context, _, y ggml.Tensor) ggml.Tensor  { return y }
func slopeRelu(c *ggml.Context, x, _ ggml.Tensor) ggml.Tensor { return c.Step(x) }
func slopeSigmoid(c *ggml.Context, _, y ggml.Tensor) ggml.Tensor {
	return c.Mul(y, c.ScaleBias(y, -1, 1))
}
func slopeTanh(c *ggml.Context, _, y ggml.Tensor) ggml.Tensor     { return c.ScaleBias(c.Sqr(y), -1, 1) }
func slopeSoftplus(c *ggml.Context, x, _ ggml.Tensor) ggml.Tensor { return c.Sigmoid(x) }

func slopeSilu(c *ggml.Context, x, _ ggml.Tensor) ggml.Tensor { return slopeSwish(c, x, 1) }

// geluQuickBeta is the β of ggml's GELU_QUICK, x·σ(β·x).
const geluQuickBeta = 1.702

func slopeGeluQuick(c *ggml.Context, x, _ ggml.Tensor) ggml.Tensor {
	return slopeSwish(c, x, geluQuickBeta)
}

// slopeSwish returns d/dx of x·σ(βx): σ + βx·σ·(1 − σ), with σ = σ(βx).
func slopeSwish(c *ggml.Context, x ggml.Tensor, beta float32) ggml.Tensor {
	sigma := c.Sigmoid(c.Scale(x, beta))
	inner := c.Mul(x, c.ScaleBias(sigma, -beta, beta))
	return c.Mul(sigma, c.ScaleBias(inner, 1, 1))
}

// slopeGelu returns d/dx of ½x·(1 + tanh u), u = √(2/π)·(x + a·x³):
//
//	½(1 + tanh u) + ½x·(1 − tanh² u)·√(2/π)·(1 + 3a·x²)
//
// The CPU reads GELU itself from a table of half-precision numbers. This is the derivative of what the table samples.
func slopeGelu(c *ggml.Context, x, _ ggml.Tensor) ggml.Tensor {
	const a = 0.044715
	k := float32(math.Sqrt(2 / math.Pi))
	x2 := c.Sqr(x)
	tanh := c.Tanh(c.Mul(x, c.ScaleBias(x2, k*a, k)))
	du := c.ScaleBias(x2, 3*a*k/2, k/2) // half of du/dx
	rest := c.Mul(c.Mul(x, du), c.ScaleBias(c.Sqr(tanh), -1, 1))
	return c.Add(c.ScaleBias(tanh, 0.5, 0.5), rest)
}

// vjpGelu is vjpUnary(slopeGelu), by a kernel where there is one.
func vjpGelu(s *sweep, t, dy ggml.Tensor) error {
	x := t.Src(0)
	if !s.ops.native || !s.needs[x] {
		return vjpUnary(slopeGelu)(s, t, dy)
	}
	s.addGrad(x, kernels.GeluBack(s.ctx, s.cont(s.value(x)), s.cont(dy)))
	return nil
}

// vjpGeglu is vjpGated over GELU and slopeGelu, by a kernel where there is one.
func vjpGeglu(s *sweep, t, dy ggml.Tensor) error {
	if !s.ops.native {
		return vjpGated((*ggml.Context).Gelu, slopeGelu)(s, t, dy)
	}
	dy = s.cont(dy)
	s.addGatedGrads(t, func(g, u ggml.Tensor) (dg, du ggml.Tensor) {
		return kernels.GeluBack(s.ctx, g, s.ctx.Mul(dy, u)), s.ctx.Mul(dy, kernels.Gelu(s.ctx, g, true))
	})
	return nil
}

// slopeGeluErf returns d/dx of x·Φ(x): Φ(x) + x·φ(x), with Φ and φ the normal distribution and its density. ggml has no Φ:
// it is x·Φ(x) divided by x, both taken beside 0 when x is 0.
func slopeGeluErf(c *ggml.Context, x, _ ggml.Tensor) ggml.Tensor {
	const beside = 1e-6
	isZero := c.ScaleBias(c.Add(c.Step(x), c.Step(c.Neg(x))), -1, 1)
	x = c.Add(x, c.Scale(isZero, beside))
	cumulative := c.Div(c.GeluErf(x), x)
	density := c.Scale(c.Exp(c.Scale(c.Sqr(x), -0.5)), float32(1/math.Sqrt(2*math.Pi)))
	return c.Add(cumulative, c.Mul(x, density))
}

// y = p·x² + b·x where x > 0, n·(exp(min(x, ε)) − 1 − x) + b·x elsewhere; n, p, b and ε are the node's parameters:
//
//	dy/dx = 2p·x + b where x > 0, n·(eˣ·[x < ε] − 1) + b elsewhere
func vjpXielu(s *sweep, t, dy ggml.Tensor) error {
	c, x := s.ctx, s.cont(s.value(t.Src(0)))
	n, p, b, eps := t.ParamF(1), t.ParamF(2), t.ParamF(3), t.ParamF(4)
	right := c.Step(x)
	left := c.ScaleBias(right, -1, 1)
	exp := c.Exp(c.Clamp(x, float32(math.Inf(-1)), eps))
	bent := c.ScaleBias(c.Mul(exp, inside(c, x, float32(math.Inf(-1)), eps)), n, -n)
	slope := c.Add(c.Mul(right, c.Scale(x, 2*p)), c.Mul(left, bent))
	s.addGrad(t.Src(0), c.Mul(s.cont(dy), c.ScaleBias(slope, 1, b)))
	return nil
}

// y = x limited to [lo, hi]: dx = dy where y is neither bound. y is there for its readers, x perhaps not.
func vjpClamp(s *sweep, t, dy ggml.Tensor) error {
	s.addGrad(t.Src(0), s.ctx.Mul(s.cont(dy), inside(s.ctx, s.value(t), t.ParamF(0), t.ParamF(1))))
	return nil
}

// inside returns 1 where lo < x < hi and 0 elsewhere; an infinite bound is none.
func inside(c *ggml.Context, x ggml.Tensor, lo, hi float32) ggml.Tensor {
	mask := c.Fill(x, 1)
	if !math.IsInf(float64(lo), 0) {
		mask = c.Mul(mask, c.Step(c.ScaleBias(x, 1, -lo)))
	}
	if !math.IsInf(float64(hi), 0) {
		mask = c.Mul(mask, c.Step(c.ScaleBias(x, -1, hi)))
	}
	return mask
}

// y = f(g) ⊙ u: dg = dy ⊙ u ⊙ f'(g), du = dy ⊙ f(g).
func vjpGated(f func(*ggml.Context, ggml.Tensor) ggml.Tensor, df slope) rule {
	return func(s *sweep, t, dy ggml.Tensor) error {
		c := s.ctx
		s.addGatedGrads(t, func(g, u ggml.Tensor) (dg, du ggml.Tensor) {
			fg := f(c, g)
			dy := s.cont(dy)
			return c.Mul(c.Mul(dy, u), df(c, g, fg)), c.Mul(dy, fg)
		})
		return nil
	}
}

// y = x·σ(αx)·(v + 1), x = min(g, limit), v = u limited to ±limit:
//
//	dg = dy ⊙ (v + 1) ⊙ d(x·σ(αx))/dx where g < limit, du = dy ⊙ x·σ(αx) where |u| < limit
func vjpSwigluOAI(s *sweep, t, dy ggml.Tensor) error {
	c, alpha, limit := s.ctx, t.ParamF(2), t.ParamF(3)
	none := float32(math.Inf(-1))
	dy = s.cont(dy)
	s.addGatedGrads(t, func(g, u ggml.Tensor) (dg, du ggml.Tensor) {
		x := c.Clamp(g, none, limit)
		v := c.Clamp(u, -limit, limit)
		dg = c.Mul(c.Mul(dy, c.ScaleBias(v, 1, 1)), slopeSwish(c, x, alpha))
		du = c.Mul(dy, c.Mul(x, c.Sigmoid(c.Scale(x, alpha))))
		return c.Mul(dg, inside(c, g, none, limit)), c.Mul(du, inside(c, u, -limit, limit))
	})
	return nil
}

// addGatedGrads finds g and u of a gated unit, two tensors or the halves of the rows of one (u first if the node says so),
// and adds to their gradients.
func (s *sweep) addGatedGrads(t ggml.Tensor, grads func(g, u ggml.Tensor) (dg, du ggml.Tensor)) {
	c, x := s.ctx, t.Src(0)
	if u := t.Src(1); !u.IsNil() {
		dg, du := grads(s.cont(s.value(x)), s.cont(s.value(u)))
		s.addGrad(x, dg)
		s.addGrad(u, du)
		return
	}
	ne, whole := t.NE(), s.value(x)
	half := func(i int64) ggml.Tensor { return c.Cont(c.View(whole, ne, whole.NB(), i*ne[0]*4)) }
	if swapped := t.Param(1) != 0; swapped {
		dg, du := grads(half(1), half(0))
		s.addGrad(x, c.Concat(du, dg, 0))
		return
	}
	dg, du := grads(half(0), half(1))
	s.addGrad(x, c.Concat(dg, du, 0))
}
