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
	// recomputed has the forward nodes that are computed again when their value is needed; repeated, their repetitions.
	recomputed map[ggml.Tensor]bool
	repeated   map[ggml.Tensor]ggml.Tensor
	// addNode is called with every node that adds to a leaf, a gradient or a statistic, in backward order.
	addNode func(leaf, sum ggml.Tensor)

	statistics *statistics // nil where none are gathered
}

// nameOf returns the operation of a node: ggml's name, or that of a kernel of ours.
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
	shortConv: vjpShortConv,
	deltaNet:  vjpDeltaNet,

	"RMS_NORM": vjpRMSNorm,
	rmsNormMul: vjpNormMul(kernels.RMSNormMulBack, (*ggml.Context).RMSNorm),
	normMul:    vjpNormMul(kernels.NormMulBack, (*ggml.Context).Norm),
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
	"GELU":       vjpGelu,
	gelu:         vjpGelu,
	"GELU_ERF":   vjpUnary(slopeGeluErf),
	"GELU_QUICK": vjpUnary(slopeGeluQuick),
	"XIELU":      vjpXielu,
	"CLAMP":      vjpClamp,

	"SWIGLU":      vjpSwiglu,
	"SWIGLU_OAI":  vjpSwigluOAI,
	"REGLU":       vjpGated((*ggml.Context).Relu, slopeRelu),
	"GEGLU":       vjpGeglu,
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

// backward applies the rules from the last node to the first. The derivatives by the graph's results are already in grads.
func (s *sweep) backward() error {
	for i := len(s.order) - 1; i >= 0; i-- {
		t := s.order[i]
		dy, ok := s.grads[t]
		if !ok || !s.needs[t] {
			continue
		}
		s.enter(s.derivedOn(t))
		if p, ok := s.products[t]; ok {
			s.product(p, s.cont(dy))
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

// derivedOn returns the side on which the derivatives of a node are formed: that of the node, or of what is trained there, which may
// be read elsewhere, as a table of embeddings is.
func (s *sweep) derivedOn(t ggml.Tensor) place {
	side := s.sideOf[t]
	if s.sets.homes == nil {
		return side
	}
	for i := range ggml.MaxSrc {
		if src := t.Src(i); !src.IsNil() {
			if _, trained := s.totals[src]; trained {
				side, _ = s.sets.homes.of(src.Name())
			}
		}
	}
	return side
}

// product adds the gradients of y = (W + ΔW)·x: of the factors, of W where it is trained itself, and of x.
func (s *sweep) product(p *weightProduct, dy ggml.Tensor) {
	x := s.value(p.x)
	s.addStatistics(p, x, dy)
	grads, dx := p.linear.backward(s.ctx, p.w, x, dy, s.needs[p.x])
	for i, leaf := range p.linear.leaves() {
		s.addToTotal(leaf, grads[i])
	}
	if s.needs[p.w] {
		s.addOuterGrad(p.w, x, dy)
	}
	s.addGrad(p.x, dx)
}

// addToTotal adds g to the total of a trainable leaf.
func (s *sweep) addToTotal(leaf, g ggml.Tensor) {
	s.addNode(leaf, s.ctx.AddInPlace(s.totals[leaf], s.cont(g)))
}

// addGrad adds g to the gradient of x, which has the shape of x. A tensor that needs no gradient is passed over.
func (s *sweep) addGrad(x, g ggml.Tensor) {
	if !s.needs[x] {
		return
	}
	if _, ok := s.totals[x]; ok {
		s.addToTotal(x, g)
		return
	}
	if old, ok := s.grads[x]; ok {
		g = s.ctx.Add(old, g)
	}
	s.grads[x] = g
}

// cont returns t in contiguous memory, which most operations of most backends want.
func (s *sweep) cont(t ggml.Tensor) ggml.Tensor {
	if t.IsContiguous() {
		return t
	}
	return s.ctx.Cont(t)
}

// reduce returns g summed over the dimensions in which x was broadcast.
func (s *sweep) reduce(g, x ggml.Tensor) ggml.Tensor {
	if g.SameShape(x) {
		return g
	}
	return s.ops.repeatBack(s.ctx, s.cont(g), x)
}

// addOuterGrad adds Σ x·dy over the tokens to the gradient of w [n_in, n_out], for x [n_in, N] and dy [n_out, N].
func (s *sweep) addOuterGrad(w, x, dy ggml.Tensor) {
	total, ok := s.totals[w]
	switch {
	case !s.ops.native:
		s.addGrad(w, product(s.ctx, transposed(s.ctx, s.rows(x)), transposed(s.ctx, s.rows(dy))))
	case ok:
		s.addNode(w, kernels.AddOuter(s.ctx, total, x, dy))
	default:
		s.addGrad(w, kernels.BatchOuter(s.ctx, x, dy, 1, 1))
	}
}

// rows returns t as a matrix: its higher dimensions become one.
func (s *sweep) rows(t ggml.Tensor) ggml.Tensor {
	return s.ctx.Reshape(s.cont(t), t.NE()[0], t.Elements()/t.NE()[0])
}

// addSumGrad adds the sum of dy ⊙ a, over the dimensions in which x was broadcast, to the gradient of x; no a stands for 1.
func (s *sweep) addSumGrad(x, dy, a ggml.Tensor) {
	if total, ok := s.totals[x]; ok && s.ops.native && isRow(x, dy) {
		if !a.IsNil() {
			a = s.cont(a)
		}
		s.addNode(x, kernels.AddSums(s.ctx, total, s.cont(dy), a))
		return
	}
	if !a.IsNil() {
		dy = s.ctx.Mul(dy, a)
	}
	s.addGrad(x, s.reduce(dy, x))
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
	s.addGrad(t.Src(0), dy)
	if b := t.Src(1); s.needs[b] {
		s.addSumGrad(b, dy, ggml.Tensor{})
	}
	return nil
}

// y = a ⊙ b, b broadcast: da = dy ⊙ b, db = Σ dy ⊙ a.
func vjpMul(s *sweep, t, dy ggml.Tensor) error {
	a, b := t.Src(0), t.Src(1)
	if s.needs[a] {
		s.addGrad(a, s.ctx.Mul(dy, s.value(b)))
	}
	if s.needs[b] {
		s.addSumGrad(b, dy, s.value(a))
	}
	return nil
}

// y = a − b, b broadcast: da = dy, db = −Σ dy.
func vjpSub(s *sweep, t, dy ggml.Tensor) error {
	s.addGrad(t.Src(0), dy)
	if b := t.Src(1); s.needs[b] {
		s.addGrad(b, s.ctx.Neg(s.reduce(s.cont(dy), b)))
	}
	return nil
}

// y = a / b, b broadcast: da = dy / b, db = −Σ dy ⊙ y / b.
func vjpDiv(s *sweep, t, dy ggml.Tensor) error {
	da := s.ctx.Div(dy, s.value(t.Src(1)))
	s.addGrad(t.Src(0), da)
	if b := t.Src(1); s.needs[b] {
		s.addGrad(b, s.ctx.Neg(s.reduce(s.ctx.Mul(da, s.value(t)), b)))
	}
	return nil
}

// y = c·a + bias: da = c·dy.
func vjpScale(s *sweep, t, dy ggml.Tensor) error {
	s.addGrad(t.Src(0), s.ctx.Scale(s.cont(dy), t.ParamF(0)))
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
		s.addGrad(b, mulTransposed(s.ctx, s.value(a), dy))
	}
	if s.needs[a] {
		an, bn, yn := a.NE(), b.NE(), t.NE()
		if an[3] != bn[3] && an[2] != 1 {
			return s.unsupported(t, "a product is broadcast over two dimensions")
		}
		groups := bn[2] * bn[3] / (an[2] * an[3])
		bg := s.ctx.Reshape(s.cont(s.value(b)), bn[0], bn[1]*groups, an[2], an[3])
		yg := s.ctx.Reshape(dy, yn[0], yn[1]*groups, an[2], an[3])
		s.addGrad(a, product(s.ctx, transposed(s.ctx, bg), transposed(s.ctx, yg)))
	}
	return nil
}

// vjpBatchMul does what vjpMulMat does, by kernels, which take a and b as they lie in memory.
func vjpBatchMul(s *sweep, t, dy ggml.Tensor) error {
	a, b := t.Src(0), t.Src(1)
	if s.needs[b] {
		s.addGrad(b, kernels.BatchMulT(s.ctx, s.value(a), dy))
	}
	if s.needs[a] {
		ne := a.NE()
		s.addGrad(a, kernels.BatchOuter(s.ctx, s.value(b), dy, ne[2], ne[3]))
	}
	return nil
}

// y = x/r by rows of n, r = √(mean(x²) + ε): dx = (dy − y·mean(dy ⊙ y))/r, exact with ε.
func vjpRMSNorm(s *sweep, t, dy ggml.Tensor) error {
	if s.ops.native {
		s.addGrad(t.Src(0), kernels.RMSNormBack(s.ctx, s.cont(s.value(t.Src(0))), s.cont(dy), t.ParamF(0)))
		return nil
	}
	c, x, y := s.ctx, s.cont(s.value(t.Src(0))), s.value(t)
	n := float32(x.NE()[0])
	r := c.Sqrt(c.ScaleBias(c.SumRows(c.Sqr(x)), 1/n, t.ParamF(0)))
	mean := c.Scale(c.SumRows(c.Mul(s.cont(dy), y)), 1/n)
	s.addGrad(t.Src(0), c.Div(c.Sub(dy, c.Mul(y, mean)), r))
	return nil
}

// y = R(pos)·x, a rotation times YaRN's magnitude: dx = R(−pos)·dy. The angle is linear in the position, and every
// backend reads positions as signed integers.
func vjpRope(s *sweep, t, dy ggml.Tensor) error {
	s.addGrad(t.Src(0), s.ctx.Like(t, t.NE(), s.cont(dy), s.negated(t.Src(1)), t.Src(2)))
	return nil
}

// y = softmax(c·x + mask) by rows: dx = c·y ⊙ (dy − Σ dy ⊙ y), with sinks and ALiBi too.
func vjpSoftMax(s *sweep, t, dy ggml.Tensor) error {
	c, y := s.ctx, s.value(t)
	dy = s.cont(dy)
	if sinks := t.Src(2); s.needs[sinks] {
		s.addSinksGrad(sinks, y, dy)
	}
	if s.ops.native {
		s.addGrad(t.Src(0), kernels.SoftMaxBack(c, y, dy, t.ParamF(0)))
		return nil
	}
	dot := c.SumRows(c.Mul(dy, y))
	s.addGrad(t.Src(0), c.Scale(c.Mul(c.Sub(dy, dot), y), t.ParamF(0)))
	return nil
}

// y = silu(g) ⊙ u: du = dy ⊙ silu(g), dg = dy ⊙ u ⊙ σ(g)·(1 + g·(1 − σ(g))).
func vjpSwiglu(s *sweep, t, dy ggml.Tensor) error {
	dy = s.cont(dy)
	if x := t.Src(0); s.ops.native && t.Src(1).IsNil() {
		s.addGrad(x, kernels.SwigluBackFused(s.ctx, s.cont(s.value(x)), dy, t.Param(1) != 0))
		return nil
	}
	grads := swigluGrads
	if s.ops.native {
		grads = kernels.SwigluBack
	}
	s.addGatedGrads(t, func(g, u ggml.Tensor) (dg, du ggml.Tensor) { return grads(s.ctx, g, u, dy) })
	return nil
}

func swigluGrads(c *ggml.Context, g, u, dy ggml.Tensor) (dg, du ggml.Tensor) {
	sigma := c.Sigmoid(g)
	slope := c.Mul(sigma, c.ScaleBias(c.Mul(g, c.ScaleBias(sigma, -1, 1)), 1, 1))
	return c.Mul(c.Mul(dy, u), slope), c.Mul(dy, c.Mul(g, sigma))
}
