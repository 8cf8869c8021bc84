package graph

import (
	"finetune/adapter"
	"finetune/kernels"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// linear is the product of one weight W [n_in, n_out] with activations, adapted or not. The plain-Go forward and backward
// of package adapter are the oracle of the adapted ones.
type linear interface {
	// forward returns y = (W + ΔW)·x, [n_out, N], for x [n_in, N].
	forward(c *ggml.Context, w, x ggml.Tensor) ggml.Tensor
	// backward returns, for dy [n_out, N], the gradient of each factor in the order of adapter.Factors.Matrices, and
	// dx [n_in, N] = (W + ΔW)ᵀ·dy unless it is not wanted. That of W itself is the sweep's.
	backward(c *ggml.Context, w, x, dy ggml.Tensor, wantDX bool) (grads []ggml.Tensor, dx ggml.Tensor)
	// leaves returns the factors' tensors, in that order.
	leaves() []ggml.Tensor
}

// constantsOf returns the vectors that the linear of f reads beside its factors.
func constantsOf(f adapter.Factors) [][]float32 {
	if d, ok := f.(*adapter.DoRA); ok {
		return [][]float32{d.BaseSquares()}
	}
	return nil
}

// newLinear makes the linear of f over the tensors of its factors, in the order of f.Matrices, and those of its constants.
// drawn is that of draw.
func (p opSet) newLinear(f adapter.Factors, mats, constants []ggml.Tensor, drawn ggml.Tensor) linear {
	switch f.Method() {
	case adapter.MethodLoRA:
		return &lora{opSet: p, a: mats[0], b: mats[1], scale: f.Scale()}
	case adapter.MethodDual:
		return &dual{opSet: p, a: mats[0], b: mats[1], c: mats[2], d: mats[3], scale: f.Scale(), limit: f.(*adapter.Dual).Limit, drawn: drawn}
	case adapter.MethodDoRA:
		return &dora{lora: lora{opSet: p, a: mats[0], b: mats[1], scale: f.Scale()}, m: mats[2], squares: constants[0]}
	}
	panic("internal error: graph: no linear for " + string(f.Method()))
}

// unadapted is y = W·x.
type unadapted struct{ opSet }

func (p unadapted) leaves() []ggml.Tensor { return nil }

func (p unadapted) forward(c *ggml.Context, w, x ggml.Tensor) ggml.Tensor { return p.mul(c, w, x) }

func (p unadapted) backward(c *ggml.Context, w, _, dy ggml.Tensor, wantDX bool) (_ []ggml.Tensor, dx ggml.Tensor) {
	if wantDX {
		dx = p.mulT(c, w, dy)
	}
	return nil, dx
}

// lora is y = W·x + s·B·(A·x). The kernel adds s·B·A to W block by block, which costs r/N of the product.
type lora struct {
	opSet
	a, b  ggml.Tensor // A [n_in, r], B [r, n_out]
	scale float32
}

func (l *lora) leaves() []ggml.Tensor { return []ggml.Tensor{l.a, l.b} }

func (l *lora) forward(c *ggml.Context, w, x ggml.Tensor) ggml.Tensor {
	if l.native {
		return kernels.LoRAMul(c, w, contiguous(c, x), l.a, l.b, l.scale)
	}
	x = contiguous(c, x)
	return c.Add(l.mul(c, w, x), c.Scale(product(c, l.b, product(c, l.a, x)), l.scale))
}

func (l *lora) backward(c *ggml.Context, w, x, dy ggml.Tensor, wantDX bool) (grads []ggml.Tensor, dx ggml.Tensor) {
	if l.native {
		_, da, db := kernels.LoRAGrads(c, contiguous(c, x), dy, l.a, l.b, l.scale)
		if wantDX {
			dx = kernels.LoRAMulT(c, w, dy, l.a, l.b, l.scale)
		}
		return []ggml.Tensor{da, db}, dx
	}
	sdy := c.Scale(dy, l.scale)
	t := product(c, l.a, contiguous(c, x))    // [r, N], cheaper to recompute than to keep
	dt := product(c, transposed(c, l.b), sdy) // [r, N]
	da := product(c, transposed(c, inRows(c, x)), transposed(c, inRows(c, dt)))
	db := product(c, transposed(c, inRows(c, t)), transposed(c, inRows(c, sdy)))
	if wantDX {
		dx = c.Add(l.mulT(c, w, dy), product(c, transposed(c, l.a), dt))
	}
	return []ggml.Tensor{da, db}, dx
}

// dual is y = (W + ΔW)·x with ΔW = s·ReLU(B·A) ⊙ sign(D·C). The reference form computes W·x + ΔW·x, as inference with an
// exported adapter does; the kernel adds ΔW to W tile by tile. Both leave a product as it is while B is zero.
type dual struct {
	opSet
	a, b, c, d ggml.Tensor // A [n_in, r1], B [r1, n_out], C [n_in, r2], D [r2, n_out]
	scale      float32
	limit      float32     // of |N| for the gradient through the sign; 0: none
	drawn      ggml.Tensor // I32, rows of x and dy that dA and dB are formed over; nil: all
}

// isThin reports whether the magnitude has one rank and nothing keeps dC and dD from going without a product of the size of W.
func (d *dual) isThin() bool { return d.a.NE()[1] == 1 && d.limit == 0 }

// isDrawn reports whether dA and dB are formed over a part of the tokens.
func (d *dual) isDrawn() bool { return d.isThin() && !d.drawn.IsNil() }

// part returns the rows of x and dy, [n_in, n] and [n_out, n], that dA and dB are formed over, and what makes a sum over them
// one over all.
func (d *dual) part(c *ggml.Context, x, dy ggml.Tensor) (xs, dys ggml.Tensor, times float32) {
	if !d.isDrawn() {
		return x, dy, 1
	}
	xs, dys = c.GetRows(inRows(c, x), d.drawn), c.GetRows(inRows(c, dy), d.drawn)
	return xs, dys, float32(x.Elements()/x.NE()[0]) / float32(d.drawn.Elements())
}

func (d *dual) leaves() []ggml.Tensor { return []ggml.Tensor{d.a, d.b, d.c, d.d} }

// masks returns M = B·A and sign(N), N = D·C, both [n_in, n_out]. They are computed where they are needed and never kept:
// r multiplications an entry are cheaper than memory for whole matrices from the forward to the backward pass. Their signs decide
// what ΔW is, so that they are formed in full precision on every side: they have to be those of the file that is exported.
func (d *dual) masks(c *ggml.Context) (m, sign ggml.Tensor) {
	m = d.outer(c, d.a, d.b)
	return m, c.ScaleBias(c.Step(d.outer(c, d.c, d.d)), 2, -1)
}

func (d *dual) forward(c *ggml.Context, w, x ggml.Tensor) ggml.Tensor {
	if d.native {
		return kernels.DualMul(c, w, contiguous(c, x), d.a, d.b, d.c, d.d, d.scale)
	}
	m, sign := d.masks(c)
	delta := c.Scale(c.Mul(c.Relu(m), sign), d.scale)
	x = contiguous(c, x)
	return c.Add(d.mul(c, w, x), product(c, delta, x))
}

func (d *dual) backward(c *ggml.Context, w, x, dy ggml.Tensor, wantDX bool) (grads []ggml.Tensor, dx ggml.Tensor) {
	if d.native {
		if wantDX {
			dx = kernels.DualMulT(c, w, dy, d.a, d.b, d.c, d.d, d.scale)
		}
		x := contiguous(c, x)
		// Where all four want the same product in F32, one kernel for them is as fast.
		if d.isDrawn() || d.isThin() && !d.exact && kernels.HasBytes() {
			xs, dys, times := d.part(c, x, dy)
			_, da, db := kernels.ThinMagnitude(c, xs, dys, d.a, d.b, d.c, d.d, d.scale*times, d.exact)
			_, dc, dd := kernels.ThinDirections(c, x, dy, d.a, d.b, d.c, d.d, d.scale)
			return []ggml.Tensor{da, db, dc, dd}, dx
		}
		_, da, db, dc, dd := kernels.DualGrads(c, x, dy, d.a, d.b, d.c, d.d, d.scale, d.limit)
		return []ggml.Tensor{da, db, dc, dd}, dx
	}
	m, sign := d.masks(c)
	relu := c.Scale(c.Relu(m), d.scale)
	if wantDX {
		dx = c.Add(d.mulT(c, w, dy), product(c, transposed(c, c.Mul(relu, sign)), dy))
	}
	g := product(c, transposed(c, inRows(c, x)), transposed(c, inRows(c, dy))) // dL/dΔW [n_in, n_out]
	dn := c.Mul(g, relu)                                                       // straight through the sign
	if d.limit > 0 {
		n := d.outer(c, d.c, d.d)
		above := c.Add(c.Step(c.ScaleBias(n, 1, -d.limit)), c.Step(c.ScaleBias(n, -1, -d.limit)))
		dn = c.Mul(dn, c.ScaleBias(above, -1, 1))
	}
	if d.isDrawn() {
		xs, dys, times := d.part(c, x, dy)
		g = c.Scale(product(c, transposed(c, xs), transposed(c, dys)), times)
	}
	on := c.ScaleBias(c.Step(c.Neg(m)), -d.scale, d.scale) // s·[M ≥ 0]: ReLU'(0) = 1
	dm := c.Mul(c.Mul(g, sign), on)
	da, db := factorGrads(c, dm, d.a, d.b)
	dc, dd := factorGrads(c, dn, d.c, d.d)
	return []ggml.Tensor{da, db, dc, dd}, dx
}

// factorGrads turns dP, the gradient of P = B·A, into dA = Bᵀ·dP and dB = dP·Aᵀ.
func factorGrads(c *ggml.Context, dp, a, b ggml.Tensor) (da, db ggml.Tensor) {
	return product(c, transposed(c, dp), transposed(c, b)), product(c, a, dp)
}
