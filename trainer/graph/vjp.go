package graph

import (
	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// sweep walks a forward graph backwards and adds the nodes of the derivatives. Of a node y = f(x, …) with dy = dL/dy it
// makes dL/dx: a vector-Jacobian product, one rule for each operation, composed of operations that every backend has.
type sweep struct {
	*rewriter
	grads map[ggml.Tensor]ggml.Tensor // our forward node → dL/d(node)
	// dropped are the forward nodes that are formed again when their value is needed, and again what was formed.
	dropped map[ggml.Tensor]bool
	again   map[ggml.Tensor]ggml.Tensor
	// each is called with every node that adds to a leaf, a gradient or a statistic, in backward order.
	each func(leaf, sum ggml.Tensor)

	statistics *statistics // nil where none are gathered
}

// nameOf is the operation of a node: ggml's name, or that of a kernel of ours.
func nameOf(t ggml.Tensor) string {
	if name := kernels.Name(t); name != "" {
		return name
	}
	return t.Op()
}

// rule adds to the gradients of t's operands.
type rule func(s *sweep, t, dy ggml.Tensor) error

// rules by ggml's name of the operation. The derivative of each is written down in its function.
var rules = map[string]rule{
	"ADD":     vjpAdd,
	"SUB":     vjpSub,
	"MUL":     vjpMul,
	"DIV":     vjpDiv,
	"SCALE":   vjpScale,
	"MUL_MAT": vjpMulMat,
	batchMul:  vjpBatchMul,
	attention: vjpAttention,
	"ROPE":    vjpRope,
	rotate:    vjpRotate,

	"RMS_NORM": vjpRMSNorm,
	rmsNormMul: vjpRMSNormMul,
	"NORM":     vjpNorm,
	"L2_NORM":  vjpL2Norm,
	"SOFT_MAX": vjpSoftMax,

	"NEG":        vjpNeg,
	"SQR":        vjpUnary(slopeSqr),
	"SQRT":       vjpUnary(slopeSqrt),
	"EXP":        vjpUnary(slopeExp),
	"RELU":       vjpUnary(slopeRelu),
	"SIGMOID":    vjpUnary(slopeSigmoid),
	"TANH":       vjpUnary(slopeTanh),
	"SOFTPLUS":   vjpUnary(slopeSoftplus),
	"SILU":       vjpUnary(slopeSilu),
	"GELU":       vjpUnary(slopeGelu),
	"GELU_ERF":   vjpUnary(slopeGeluErf),
	"GELU_QUICK": vjpUnary(slopeGeluQuick),
	"XIELU":      vjpXielu,
	"CLAMP":      vjpClamp,

	"SWIGLU":      vjpSwiglu,
	"SWIGLU_OAI":  vjpSwigluOAI,
	"REGLU":       vjpGated((*ggml.Context).Relu, slopeRelu),
	"GEGLU":       vjpGated((*ggml.Context).Gelu, slopeGelu),
	"GEGLU_ERF":   vjpGated((*ggml.Context).GeluErf, slopeGeluErf),
	"GEGLU_QUICK": vjpGated((*ggml.Context).GeluQuick, slopeGeluQuick),

	"RESHAPE":   vjpReshape,
	"CONT":      vjpReshape,
	"CPY":       vjpReshape,
	"DUP":       vjpReshape,
	"VIEW":      vjpView,
	"PERMUTE":   vjpPermute,
	"TRANSPOSE": vjpTranspose,
	"CONCAT":    vjpConcat,
	"REPEAT":    vjpRepeat,
	"SUM_ROWS":  vjpSumRows,
	"MEAN":      vjpMean,
	"GET_ROWS":  vjpGetRows,
}

// backward sweeps from the seeds, which are already in grads.
func (s *sweep) backward() error {
	for i := len(s.order) - 1; i >= 0; i-- {
		t := s.order[i]
		dy, ok := s.grads[t]
		if !ok || !s.needs[t] {
			continue
		}
		if u, ok := s.uses[t]; ok {
			s.product(u, s.cont(dy))
			continue
		}
		vjp, ok := rules[nameOf(t)]
		if !ok {
			return s.unsupported(t, "the operation has no derivative rule")
		}
		if err := vjp(s, t, dy); err != nil {
			return err
		}
	}
	return nil
}

// y = (W + ΔW)·x: the gradients of the factors, of W where it is trained itself, and of x.
func (s *sweep) product(u *use, dy ggml.Tensor) {
	x := s.value(u.x)
	s.observe(u, x, dy)
	grads, dx := u.term.backward(s.ctx, u.w, x, dy, s.needs[u.x])
	for i, leaf := range u.term.leaves() {
		s.collect(leaf, grads[i])
	}
	if s.needs[u.w] {
		s.giveOuter(u.w, x, dy)
	}
	s.give(u.x, dx)
}

// collect adds g to the total of a trained leaf.
func (s *sweep) collect(leaf, g ggml.Tensor) {
	s.each(leaf, s.ctx.AddInPlace(s.totals[leaf], s.cont(g)))
}

// give adds g to the gradient of x. A gradient has the shape of what it belongs to.
func (s *sweep) give(x, g ggml.Tensor) {
	if !s.needs[x] {
		return
	}
	if _, ok := s.totals[x]; ok {
		s.collect(x, g)
		return
	}
	if old, ok := s.grads[x]; ok {
		g = s.ctx.Add(old, g)
	}
	s.grads[x] = g
}

// cont makes t contiguous if it is not: most kernels of most backends want that.
func (s *sweep) cont(t ggml.Tensor) ggml.Tensor {
	if t.IsContiguous() {
		return t
	}
	return s.ctx.Cont(t)
}

// reduce sums g over the dimensions in which x was broadcast.
func (s *sweep) reduce(g, x ggml.Tensor) ggml.Tensor {
	if g.SameShape(x) {
		return g
	}
	return s.ctx.RepeatBack(s.cont(g), x)
}

// giveOuter gives w [n_in, n_out] the gradient Σ x·dy over the tokens, for x [n_in, N] and dy [n_out, N].
func (s *sweep) giveOuter(w, x, dy ggml.Tensor) {
	total, ok := s.totals[w]
	switch {
	case !s.with.native:
		s.give(w, s.ctx.MulMat(transposed(s.ctx, s.rows(x)), transposed(s.ctx, s.rows(dy))))
	case ok:
		s.each(w, kernels.AddOuter(s.ctx, total, x, dy))
	default:
		s.give(w, kernels.BatchOuter(s.ctx, x, dy, 1, 1))
	}
}

// rows is t as a matrix, its higher dimensions one.
func (s *sweep) rows(t ggml.Tensor) ggml.Tensor {
	return s.ctx.Reshape(s.cont(t), t.NE()[0], t.Elements()/t.NE()[0])
}

// giveSum gives x the sum of dy ⊙ a over the dimensions in which x was broadcast; no a stands for 1.
func (s *sweep) giveSum(x, dy, a ggml.Tensor) {
	if total, ok := s.totals[x]; ok && s.with.native && isRow(x, dy) {
		if !a.IsNil() {
			a = s.cont(a)
		}
		s.each(x, kernels.AddSums(s.ctx, total, s.cont(dy), a))
		return
	}
	if !a.IsNil() {
		dy = s.ctx.Mul(dy, a)
	}
	s.give(x, s.reduce(dy, x))
}

// isRow reports whether t consists of repetitions of all of x one after the other.
func isRow(x, t ggml.Tensor) bool {
	a, b := x.NE(), t.NE()
	i := 0
	for i < 4 && a[i] == b[i] {
		i++
	}
	for ; i < 4; i++ {
		if a[i] != 1 {
			return false
		}
	}
	return true
}

// y = a + b, b broadcast: da = dy, db = Σ dy.
func vjpAdd(s *sweep, t, dy ggml.Tensor) error {
	s.give(t.Src(0), dy)
	if b := t.Src(1); s.needs[b] {
		s.giveSum(b, dy, ggml.Tensor{})
	}
	return nil
}

// y = a ⊙ b, b broadcast: da = dy ⊙ b, db = Σ dy ⊙ a.
func vjpMul(s *sweep, t, dy ggml.Tensor) error {
	a, b := t.Src(0), t.Src(1)
	if s.needs[a] {
		s.give(a, s.ctx.Mul(dy, s.value(b)))
	}
	if s.needs[b] {
		s.giveSum(b, dy, s.value(a))
	}
	return nil
}

// y = a − b, b broadcast: da = dy, db = −Σ dy.
func vjpSub(s *sweep, t, dy ggml.Tensor) error {
	s.give(t.Src(0), dy)
	if b := t.Src(1); s.needs[b] {
		s.give(b, s.ctx.Neg(s.reduce(s.cont(dy), b)))
	}
	return nil
}

// y = a / b, b broadcast: da = dy / b, db = −Σ dy ⊙ y / b.
func vjpDiv(s *sweep, t, dy ggml.Tensor) error {
	da := s.ctx.Div(dy, s.value(t.Src(1)))
	s.give(t.Src(0), da)
	if b := t.Src(1); s.needs[b] {
		s.give(b, s.ctx.Neg(s.reduce(s.ctx.Mul(da, s.value(t)), b)))
	}
	return nil
}

// y = c·a + bias: da = c·dy.
func vjpScale(s *sweep, t, dy ggml.Tensor) error {
	s.give(t.Src(0), s.ctx.Scale(s.cont(dy), t.ParamF(0)))
	return nil
}

// y = aᵀ·b with a [k, n, p, q], b [k, m, P, Q], y [n, m, P, Q]; P a multiple of p (grouped-query attention), Q of q.
//
//	db[k, m] = Σ_n a[k, n]·dy[n, m]        a product with a transposed, broadcast as before
//	da[k, n] = Σ_{m, group} b[k, m]·dy[n, m]   the heads of a group joined with m into one axis
func vjpMulMat(s *sweep, t, dy ggml.Tensor) error {
	a, b := t.Src(0), t.Src(1)
	dy = s.cont(dy)
	if s.needs[b] {
		s.give(b, mulTransposed(s.ctx, s.value(a), dy))
	}
	if s.needs[a] {
		an, bn, yn := a.NE(), b.NE(), t.NE()
		if an[3] != bn[3] && an[2] != 1 {
			return s.unsupported(t, "a product is broadcast over two dimensions")
		}
		groups := bn[2] * bn[3] / (an[2] * an[3])
		bg := s.ctx.Reshape(s.cont(s.value(b)), bn[0], bn[1]*groups, an[2], an[3])
		yg := s.ctx.Reshape(dy, yn[0], yn[1]*groups, an[2], an[3])
		s.give(a, s.ctx.MulMat(transposed(s.ctx, bg), transposed(s.ctx, yg)))
	}
	return nil
}

// vjpBatchMul is vjpMulMat with kernels, which take a and b as they lie.
func vjpBatchMul(s *sweep, t, dy ggml.Tensor) error {
	a, b := t.Src(0), t.Src(1)
	if s.needs[b] {
		s.give(b, kernels.BatchMulT(s.ctx, s.value(a), dy))
	}
	if s.needs[a] {
		ne := a.NE()
		s.give(a, kernels.BatchOuter(s.ctx, s.value(b), dy, ne[2], ne[3]))
	}
	return nil
}

// y = x/r by rows of n, r = √(mean(x²) + ε): dx = (dy − y·mean(dy ⊙ y))/r, exact with ε.
func vjpRMSNorm(s *sweep, t, dy ggml.Tensor) error {
	if s.with.native {
		s.give(t.Src(0), kernels.RMSNormBack(s.ctx, s.cont(s.value(t.Src(0))), s.cont(dy), t.ParamF(0)))
		return nil
	}
	c, x, y := s.ctx, s.cont(s.value(t.Src(0))), s.value(t)
	n := float32(x.NE()[0])
	r := c.Sqrt(c.ScaleBias(c.SumRows(c.Sqr(x)), 1/n, t.ParamF(0)))
	mean := c.Scale(c.SumRows(c.Mul(s.cont(dy), y)), 1/n)
	s.give(t.Src(0), c.Div(c.Sub(dy, c.Mul(y, mean)), r))
	return nil
}

// y = R(pos)·x, a rotation times YaRN's magnitude: dx = R(−pos)·dy. The angle is linear in the position, and every
// backend reads positions as signed integers.
func vjpRope(s *sweep, t, dy ggml.Tensor) error {
	s.give(t.Src(0), s.ctx.Like(t, t.NE(), s.cont(dy), s.negated(t.Src(1)), t.Src(2)))
	return nil
}

// y = softmax(c·x + mask) by rows: dx = c·y ⊙ (dy − Σ dy ⊙ y), with sinks and ALiBi too.
func vjpSoftMax(s *sweep, t, dy ggml.Tensor) error {
	c, y := s.ctx, s.value(t)
	dy = s.cont(dy)
	if sinks := t.Src(2); s.needs[sinks] {
		s.giveSinks(sinks, y, dy)
	}
	if s.with.native {
		s.give(t.Src(0), kernels.SoftMaxBack(c, y, dy, t.ParamF(0)))
		return nil
	}
	dot := c.SumRows(c.Mul(dy, y))
	s.give(t.Src(0), c.Scale(c.Mul(c.Sub(dy, dot), y), t.ParamF(0)))
	return nil
}

// y = silu(g) ⊙ u: du = dy ⊙ silu(g), dg = dy ⊙ u ⊙ σ(g)·(1 + g·(1 − σ(g))).
func vjpSwiglu(s *sweep, t, dy ggml.Tensor) error {
	dy = s.cont(dy)
	if x := t.Src(0); s.with.native && t.Src(1).IsNil() {
		s.give(x, kernels.SwigluBackFused(s.ctx, s.cont(s.value(x)), dy, t.Param(1) != 0))
		return nil
	}
	grads := swigluGrads
	if s.with.native {
		grads = kernels.SwigluBack
	}
	s.giveGated(t, func(g, u ggml.Tensor) (dg, du ggml.Tensor) { return grads(s.ctx, g, u, dy) })
	return nil
}

func swigluGrads(c *ggml.Context, g, u, dy ggml.Tensor) (dg, du ggml.Tensor) {
	sigma := c.Sigmoid(g)
	slope := c.Mul(sigma, c.ScaleBias(c.Mul(g, c.ScaleBias(sigma, -1, 1)), 1, 1))
	return c.Mul(c.Mul(dy, u), slope), c.Mul(dy, c.Mul(g, sigma))
}
