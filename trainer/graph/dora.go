package graph

import (
	"math"

	"finetune/adapter"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// dora is y = g ⊙ u: the outputs u of a LoRA, each channel scaled by g = M/‖V‖ for the length ‖V‖ of its row of
// V = W + s·B·A. The linear is u alone. y and g are nodes of the graph like any other, so that the sweep has rules for them
// already, and keeps or recomputes them as it does others:
//
//	du = dy ⊙ g    dM = (Σ_t dy ⊙ u)/‖V‖
//
// The lengths are constants to it, as in section 4.3 of arXiv 2402.09353.
type dora struct {
	lora
	m       ggml.Tensor // [n_out, 1]
	squares ggml.Tensor // Σ W² of each row, [n_out]
}

// rescaled adds g and y behind the product u of a DoRA and returns y, [n_out, N].
func (r *rewriter) rescaled(d *dora, p *weightProduct, product ggml.Tensor) ggml.Tensor {
	g := r.add(r.ctx.Div(d.m, d.lengths(r.ctx, p.w)))
	p.output = r.add(r.ctx.Mul(product, g))
	return p.output
}

// lengths returns ‖V‖ [n_out] without making V: a LoRA's product with the r rows of A, as it is with the N tokens of a batch.
//
//	‖V‖² − ‖W‖² = ⟨V − W, V + W⟩ = 2s·Σ_k B ⊙ ((W + s/2·B·A)·Aᵀ)ᵀ        ⟨,⟩ by rows
//
// As long as B is zero they are those of adapter.DoRA.Init, to the last bit. Their nodes stay out of the rewriter's order:
// no gradient flows through them, and n_out numbers are not worth computing again.
func (d *dora) lengths(c *ggml.Context, w ggml.Tensor) ggml.Tensor {
	half := lora{opSet: d.opSet, a: d.a, b: d.b, scale: d.scale / 2}
	between := transposed(c, half.forward(c, w, d.a))             // [r, n_out]
	change := c.Scale(c.SumRows(c.Mul(d.b, between)), 2*d.scale)  // [1, n_out]
	sum := c.Add(d.squares, c.Reshape(change, change.Elements())) // may round to less than 0 where V is 0
	return c.Sqrt(c.Clamp(sum, adapter.LengthFloor, math.MaxFloat32))
}
