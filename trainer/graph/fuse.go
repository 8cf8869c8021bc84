package graph

import (
	"slices"

	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// Some groups of traced nodes become one kernel, which reads and writes memory once. A group is recognized at its last
// node; the nodes before it, which nothing else reads, are removed again. A group that is not quite what the kernel
// computes stays as it is.

// Names of the kernels that have derivative rules.
const (
	batchMul   = "BATCH_MUL"    // products of activations with activations
	attention  = "ATTENTION"    // softmax(scale·k·q + mask)·v
	rmsNormMul = "RMS_NORM_MUL" // an RMS norm and its weight
	normMul    = "NORM_MUL"     // a norm that takes the mean off, and its weight
	gelu       = "GELU_ROWS"    // GELU without ggml's table of it
	rotate     = "ROTATE"       // rotary embedding by a table of angles
)

// countReaders counts the nodes that read each traced node.
func (r *rewriter) countReaders(nodes []ggml.Tensor) {
	for _, o := range nodes {
		for i := range ggml.MaxSrc {
			if src := o.Src(i); !src.IsNil() && src != o {
				r.readers[src]++
			}
		}
	}
}

// fused returns the node of the kernel for the group that ends with traced node o, over our operands src, and whether
// there is such a kernel.
func (r *rewriter) fused(o ggml.Tensor, src []ggml.Tensor) (t ggml.Tensor, ok bool) {
	if !r.ops.native {
		return t, false
	}
	switch o.Op() {
	case "MUL":
		return r.fusedNorm(o, src[0], src[1])
	case "GELU":
		if kernels.CanGelu(src[0]) {
			return r.add(kernels.Gelu(r.ctx, src[0], true)), true
		}
	case "ROPE":
		return r.rotated(o, src[0], src[1], src[2])
	case "MUL_MAT":
		return r.fusedAttention(o, src[0], src[1])
	}
	return t, false
}

// normsWithWeight are the kernels of ggml's norms.
var normsWithWeight = map[string]func(c *ggml.Context, x, w ggml.Tensor, eps float32) ggml.Tensor{"RMS_NORM": kernels.RMSNormMul, "NORM": kernels.NormMul}

// fusedNorm joins a norm with the product by its weight.
func (r *rewriter) fusedNorm(o, norm, w ggml.Tensor) (t ggml.Tensor, ok bool) {
	join, ok := normsWithWeight[norm.Op()]
	if !ok || r.readers[o.Src(0)] != 1 || !w.IsLeaf() || w.Type() != ggml.F32 ||
		w.NE() != [4]int64{norm.NE()[0], 1, 1, 1} || !norm.Src(0).IsContiguous() {
		return t, false
	}
	r.takeBack(norm)
	return r.add(join(r.ctx, norm.Src(0), w, norm.ParamF(0))), true
}

// rotated replaces a rotation by one with a table of angles, which all layers with the same parameters share and which
// turns back as well: the sines of 30 layers are not computed 90 times.
func (r *rewriter) rotated(o, x, pos, factors ggml.Tensor) (t ggml.Tensor, ok bool) {
	if !kernels.CanRotate(o, x, pos) {
		return t, false
	}
	key := angles{pos: pos, factors: factors}
	for i := range key.params {
		key.params[i] = o.Param(i)
	}
	table, ok := r.tables[key]
	if !ok {
		table = kernels.RopeTable(r.ctx, o, pos, factors)
		r.tables[key] = table
	}
	return r.add(kernels.Rotate(r.ctx, x, table, false, halves(o))), true
}

// halves reports whether a ROPE node pairs the halves of a head (NEOX) rather than neighbours.
func halves(o ggml.Tensor) bool { return o.Param(2) == 2 }

// angles is what the angles of a rotation depend on.
type angles struct {
	pos, factors ggml.Tensor
	params       [ropeParams]int32
}

// ropeParams is the number of words of a ROPE node's parameters.
const ropeParams = 15

// fusedAttention joins scores, soft maximum and values. ALiBi's slopes, sinks and soft caps stay apart.
func (r *rewriter) fusedAttention(o, v, p ggml.Tensor) (t ggml.Tensor, ok bool) {
	if p.Op() != "SOFT_MAX" || r.readers[o.Src(1)] != 1 || r.readers[o.Src(1).Src(0)] != 1 {
		return t, false
	}
	scores, mask := p.Src(0), p.Src(1)
	var turned ggml.Tensor // V in the order that ggml wants it in; the kernel takes it as it lay before
	if v.Op() == "CONT" && r.readers[o.Src(0)] == 1 && v.Src(0).NE() == v.NE() {
		turned, v = v, v.Src(0)
	}
	if nameOf(scores) != batchMul || mask.IsNil() || !p.Src(2).IsNil() || p.ParamF(1) != 0 || !kernels.CanAttend(scores.Src(1), scores.Src(0), v, mask) {
		return t, false
	}
	spans, ok := r.spans[mask]
	if !ok {
		spans = kernels.MaskSpans(r.ctx, mask)
		r.spans[mask] = spans
	}
	r.takeBack(p)
	r.takeBack(scores)
	if !turned.IsNil() {
		r.takeBack(turned)
	}
	node := r.add(kernels.Attention(r.ctx, scores.Src(1), scores.Src(0), v, mask, spans, p.ParamF(0)))
	y := r.add(kernels.AttentionResult(r.ctx, node))
	return r.add(r.ctx.Permute(y, [4]int{0, 2, 1, 3})), true
}

// takeBack removes a node that was added a moment ago.
func (r *rewriter) takeBack(t ggml.Tensor) {
	i := slices.Index(r.order, t)
	r.order = slices.Delete(r.order, i, i+1)
}

// y = w ⊙ n(x) by rows, with a norm n, which is x/√(mean(x²) + ε) or the same of x − mean(x): dw = Σ dy ⊙ n(x).
func vjpNormMul(back func(c *ggml.Context, x, w, dy ggml.Tensor, eps float32) ggml.Tensor, norm func(c *ggml.Context, x ggml.Tensor, eps float32) ggml.Tensor) rule {
	return func(s *sweep, t, dy ggml.Tensor) error {
		x, w, eps := s.cont(s.value(t.Src(0))), t.Src(1), t.ParamF(ggml.FirstParam)
		dy = s.cont(dy)
		s.addGrad(t.Src(0), back(s.ctx, x, w, dy, eps))
		if s.needs[w] {
			s.addSumGrad(w, dy, norm(s.ctx, x, eps))
		}
		return nil
	}
}

// y = m·R·x, a rotation with YaRN's magnitude: dx = m·Rᵀ·dy.
func vjpRotate(s *sweep, t, dy ggml.Tensor) error {
	if dy.NB()[0] != 4 {
		dy = s.cont(dy)
	}
	s.addGrad(t.Src(0), kernels.Rotate(s.ctx, dy, t.Src(1), true, t.ParamF(ggml.FirstParam+1) != 0))
	return nil
}

// With p = softmax(scale·kᵀq + mask), y = p·v: dv = pᵀ·dy, ds = p ⊙ (vᵀ·dy − dy·y), dq = scale·k·ds, dk = scale·q·dsᵀ.
// The gradient of the node is that of its result, [u, H, n, S].
func vjpAttention(s *sweep, t, dy ggml.Tensor) error {
	dy = s.ctx.Permute(dy, [4]int{0, 2, 1, 3})
	if dy.NB()[0] != 4 {
		dy = s.cont(dy)
	}
	dq, dk, dv := kernels.AttentionBack(s.ctx, s.value(t), dy)
	s.addGrad(t.Src(0), dq)
	s.addGrad(t.Src(1), dk)
	s.addGrad(t.Src(2), dv)
	return nil
}
