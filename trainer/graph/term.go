package graph

import (
	"finetune/adapter"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// term is an adapter on one weight W [n_in, n_out], in ggml operations that every backend has. adapter/'s plain-Go
// forward and backward are its reference.
type term interface {
	// forward is y = (W + ΔW)·x, [n_out, N], for x [n_in, N].
	forward(c *ggml.Context, w, x ggml.Tensor) ggml.Tensor
	// backward returns, for dy [n_out, N], the gradient of each factor in the order of adapter.Factors.Mats, and
	// dx [n_in, N] = (W + ΔW)ᵀ·dy unless it is not wanted.
	backward(c *ggml.Context, w, x, dy ggml.Tensor, wantDX bool) (grads []ggml.Tensor, dx ggml.Tensor)
	// leaves are the factors' tensors, in that order.
	leaves() []ggml.Tensor
}

// newTerm makes the native form of f over the tensors of its factors, in the order of f.Mats.
func newTerm(f adapter.Factors, mats []ggml.Tensor) term {
	switch f.Method() {
	case adapter.MethodLoRA:
		return &lora{a: mats[0], b: mats[1], scale: f.Scale()}
	case adapter.MethodDual:
		return &dual{a: mats[0], b: mats[1], c: mats[2], d: mats[3], scale: f.Scale()}
	}
	panic("internal error: graph: no native form of " + string(f.Method()))
}

// lora is y = W·x + s·B·(A·x).
type lora struct {
	a, b  ggml.Tensor // A [n_in, r], B [r, n_out]
	scale float32
}

func (l *lora) leaves() []ggml.Tensor { return []ggml.Tensor{l.a, l.b} }

func (l *lora) forward(c *ggml.Context, w, x ggml.Tensor) ggml.Tensor {
	return c.Add(c.MulMat(w, x), c.Scale(c.MulMat(l.b, c.MulMat(l.a, x)), l.scale))
}

func (l *lora) backward(c *ggml.Context, w, x, dy ggml.Tensor, wantDX bool) ([]ggml.Tensor, ggml.Tensor) {
	sdy := c.Scale(dy, l.scale)
	t := c.MulMat(l.a, x)                   // [r, N], cheaper to form again than to keep
	dt := c.MulMat(transposed(c, l.b), sdy) // [r, N]
	da := c.MulMat(transposed(c, x), transposed(c, dt))
	db := c.MulMat(transposed(c, t), transposed(c, sdy))
	var dx ggml.Tensor
	if wantDX {
		dx = c.Add(mulTransposed(c, w, dy), c.MulMat(transposed(c, l.a), dt))
	}
	return []ggml.Tensor{da, db}, dx
}

// dual is y = W·x + ΔW·x with ΔW = s·ReLU(B·A) ⊙ sign(D·C).
type dual struct {
	a, b, c, d ggml.Tensor // A [n_in, r1], B [r1, n_out], C [n_in, r2], D [r2, n_out]
	scale      float32
}

func (d *dual) leaves() []ggml.Tensor { return []ggml.Tensor{d.a, d.b, d.c, d.d} }

// products are M = B·A and sign(N), N = D·C, both [n_in, n_out]. They are formed where they are needed and never kept:
// r multiplications an entry are cheaper than memory for whole matrices from the forward to the backward pass.
func (d *dual) products(c *ggml.Context) (m, sign ggml.Tensor) {
	m = c.MulMat(transposed(c, d.a), d.b)
	n := c.MulMat(transposed(c, d.c), d.d)
	return m, c.ScaleBias(c.Step(n), 2, -1)
}

func (d *dual) forward(c *ggml.Context, w, x ggml.Tensor) ggml.Tensor {
	m, sign := d.products(c)
	delta := c.Scale(c.Mul(c.Relu(m), sign), d.scale)
	return c.Add(c.MulMat(w, x), c.MulMat(delta, x))
}

func (d *dual) backward(c *ggml.Context, w, x, dy ggml.Tensor, wantDX bool) ([]ggml.Tensor, ggml.Tensor) {
	m, sign := d.products(c)
	relu := c.Scale(c.Relu(m), d.scale)
	var dx ggml.Tensor
	if wantDX {
		dx = c.Add(mulTransposed(c, w, dy), c.MulMat(transposed(c, c.Mul(relu, sign)), dy))
	}
	g := c.MulMat(transposed(c, x), transposed(c, dy))     // dL/dΔW [n_in, n_out]
	on := c.ScaleBias(c.Step(c.Neg(m)), -d.scale, d.scale) // s·[M ≥ 0]: ReLU'(0) = 1
	dm := c.Mul(c.Mul(g, sign), on)
	dn := c.Mul(g, relu) // straight through the sign
	da, db := factorGrads(c, dm, d.a, d.b)
	dc, dd := factorGrads(c, dn, d.c, d.d)
	return []ggml.Tensor{da, db, dc, dd}, dx
}

// factorGrads turns dP, the gradient of P = B·A, into dA = Bᵀ·dP and dB = dP·Aᵀ.
func factorGrads(c *ggml.Context, dp, a, b ggml.Tensor) (da, db ggml.Tensor) {
	return c.MulMat(transposed(c, dp), transposed(c, b)), c.MulMat(a, dp)
}

// transposed is t with dimensions 0 and 1 swapped, in memory.
func transposed(c *ggml.Context, t ggml.Tensor) ggml.Tensor { return c.Cont(c.Transpose(t)) }

// mulTransposed is Wᵀ·dy [n_in, …] for W [n_in, n_out] of any type that ggml can decode and dy [n_out, …].
func mulTransposed(c *ggml.Context, w, dy ggml.Tensor) ggml.Tensor {
	if w.Type() != ggml.F32 {
		w = c.Cast(w, ggml.F32)
	}
	return c.MulMat(transposed(c, w), dy)
}
