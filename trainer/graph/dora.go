package graph

import (
	"finetune/adapter"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// dora is y = g ⊙ u: the outputs u of a LoRA, each channel scaled by g = M/‖V‖ for the length ‖V‖ of its row of
// V = W + s·B·A. The term is u alone. y and g are nodes of the graph like any other, so that the sweep has the rules for
// them already, and keeps them or forms them again as it does others:
//
//	du = dy ⊙ g    dM = (Σ_t dy ⊙ u)/‖V‖
//
// The lengths are constants to it, as in section 4.3 of arXiv 2402.09353.
type dora struct {
	lora
	m       ggml.Tensor // [n_out, 1]
	squares ggml.Tensor // Σ W² of each row, [n_out]
}

// rescaled adds g and y behind the product u of a DoRA.
func (r *rewriter) rescaled(d *dora, u *use, product ggml.Tensor) ggml.Tensor {
	g := r.add(r.ctx.Div(d.m, d.lengths(r.ctx, u.w)))
	u.output = r.add(r.ctx.Mul(product, g))
	return u.output
}

// lengths are ‖V‖ [n_out], without V: W is multiplied by the r rows of A, as it is by the N tokens of a batch.
//
//	‖V‖² = ‖W‖² + 2s·Σ_k B ⊙ (A·Wᵀ) + s²·Σ_k B ⊙ (A·Aᵀ·B)
//
// As long as B is zero they are those of adapter.DoRA.Init, to the last bit. Their nodes stay out of the rewriter's order:
// no gradient flows through them, and n_out numbers are not worth forming again.
func (d *dora) lengths(c *ggml.Context, w ggml.Tensor) ggml.Tensor {
	once := c.Scale(transposed(c, d.mul(c, w, d.a)), 2*d.scale)          // [r, n_out]
	twice := c.Scale(c.MulMat(c.MulMat(d.a, d.a), d.b), d.scale*d.scale) // [r, n_out]
	change := c.SumRows(c.Mul(d.b, c.Add(once, twice)))                  // [1, n_out]
	sum := c.Add(d.squares, c.Reshape(change, change.Elements()))        // may round to less than 0 where V is
	return c.Sqrt(c.ScaleBias(c.Relu(sum), 1, adapter.LengthFloor))
}
