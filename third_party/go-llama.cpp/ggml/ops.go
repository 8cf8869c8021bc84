package ggml

/*
#include "abi.h"
*/
import "C"

// Each method adds one node and returns it, as the ggml function of that name does (ggml.h says what it computes).
// Where ggml broadcasts, b is repeated over a.

// Element by element.

func (c *Context) Add(a, b Tensor) Tensor  { return Tensor{C.ggml_add(c.p, a.p, b.p)} }
func (c *Context) Sub(a, b Tensor) Tensor  { return Tensor{C.ggml_sub(c.p, a.p, b.p)} }
func (c *Context) Mul(a, b Tensor) Tensor  { return Tensor{C.ggml_mul(c.p, a.p, b.p)} }
func (c *Context) Div(a, b Tensor) Tensor  { return Tensor{C.ggml_div(c.p, a.p, b.p)} }
func (c *Context) Sqr(a Tensor) Tensor     { return Tensor{C.ggml_sqr(c.p, a.p)} }
func (c *Context) Sqrt(a Tensor) Tensor    { return Tensor{C.ggml_sqrt(c.p, a.p)} }
func (c *Context) Log(a Tensor) Tensor     { return Tensor{C.ggml_log(c.p, a.p)} }
func (c *Context) Exp(a Tensor) Tensor     { return Tensor{C.ggml_exp(c.p, a.p)} }
func (c *Context) Neg(a Tensor) Tensor     { return Tensor{C.ggml_neg(c.p, a.p)} }
func (c *Context) Tanh(a Tensor) Tensor    { return Tensor{C.ggml_tanh(c.p, a.p)} }
func (c *Context) Relu(a Tensor) Tensor    { return Tensor{C.ggml_relu(c.p, a.p)} }
func (c *Context) Gelu(a Tensor) Tensor    { return Tensor{C.ggml_gelu(c.p, a.p)} }
func (c *Context) Silu(a Tensor) Tensor    { return Tensor{C.ggml_silu(c.p, a.p)} }
func (c *Context) Sigmoid(a Tensor) Tensor { return Tensor{C.ggml_sigmoid(c.p, a.p)} }

// GeluErf returns x·Φ(x), Gelu its approximation by tanh, GeluQuick that by a sigmoid. The CPU reads the latter two
// from a table of half-precision numbers.
func (c *Context) GeluErf(a Tensor) Tensor   { return Tensor{C.ggml_gelu_erf(c.p, a.p)} }
func (c *Context) GeluQuick(a Tensor) Tensor { return Tensor{C.ggml_gelu_quick(c.p, a.p)} }

// Softplus returns log(1 + eˣ).
func (c *Context) Softplus(a Tensor) Tensor { return Tensor{C.ggml_softplus(c.p, a.p)} }

// Xielu returns p·x² + beta·x where x > 0 and n·(exp(min(x, eps)) − 1 − x) + beta·x elsewhere, with
// p = softplus(alphaP) and n = beta + softplus(alphaN).
func (c *Context) Xielu(a Tensor, alphaN, alphaP, beta, eps float32) Tensor {
	return Tensor{C.ggml_xielu(c.p, a.p, C.float(alphaN), C.float(alphaP), C.float(beta), C.float(eps))}
}

// AddInPlace returns a + b, in the memory of a, which has the shape of b.
func (c *Context) AddInPlace(a, b Tensor) Tensor { return Tensor{C.ggml_add_inplace(c.p, a.p, b.p)} }

// Step returns 1 where a > 0 and 0 elsewhere.
func (c *Context) Step(a Tensor) Tensor { return Tensor{C.ggml_step(c.p, a.p)} }

// Scale returns s·a.
func (c *Context) Scale(a Tensor, s float32) Tensor {
	return Tensor{C.ggml_scale(c.p, a.p, C.float(s))}
}

// ScaleBias returns s·a + b.
func (c *Context) ScaleBias(a Tensor, s, b float32) Tensor {
	return Tensor{C.ggml_scale_bias(c.p, a.p, C.float(s), C.float(b))}
}

// Clamp limits a to [lo, hi].
func (c *Context) Clamp(a Tensor, lo, hi float32) Tensor {
	return Tensor{C.ggml_clamp(c.p, a.p, C.float(lo), C.float(hi))}
}

// Fill returns v in the shape of a.
func (c *Context) Fill(a Tensor, v float32) Tensor { return Tensor{C.ggml_fill(c.p, a.p, C.float(v))} }

// SwigluSplit returns silu(a)·b.
func (c *Context) SwigluSplit(a, b Tensor) Tensor { return Tensor{C.ggml_swiglu_split(c.p, a.p, b.p)} }

// Swiglu returns silu(g)·u of the two halves of a's rows: g first, or u first when swapped.
func (c *Context) Swiglu(a Tensor, swapped bool) Tensor { return c.Glu(a, GateSwiglu, swapped) }

// Gate is a function f of the gated linear units f(g)·u, by ggml's ids (enum ggml_glu_op).
type Gate int

const (
	GateReglu      Gate = C.GGML_GLU_OP_REGLU  // relu
	GateGeglu      Gate = C.GGML_GLU_OP_GEGLU  // gelu
	GateSwiglu     Gate = C.GGML_GLU_OP_SWIGLU // silu
	GateGegluErf   Gate = C.GGML_GLU_OP_GEGLU_ERF
	GateGegluQuick Gate = C.GGML_GLU_OP_GEGLU_QUICK
)

// Glu returns f(g)·u of the two halves of a's rows: g first, or u first when swapped. GluSplit is f(g)·u of two
// tensors.
func (c *Context) Glu(a Tensor, f Gate, swapped bool) Tensor {
	return Tensor{C.ggml_glu(c.p, a.p, C.enum_ggml_glu_op(f), C.bool(swapped))}
}
func (c *Context) GluSplit(g, u Tensor, f Gate) Tensor {
	return Tensor{C.ggml_glu_split(c.p, g.p, u.p, C.enum_ggml_glu_op(f))}
}

// SwigluOAI returns x·σ(alpha·x)·(y + 1) with x = min(g, limit) and y = u limited to ±limit.
func (c *Context) SwigluOAI(g, u Tensor, alpha, limit float32) Tensor {
	return Tensor{C.ggml_swiglu_oai(c.p, g.p, u.p, C.float(alpha), C.float(limit))}
}

// Rows, and shapes that broadcast.

// SumRows sums dimension 0: [n0, n1, n2, n3] → [1, n1, n2, n3].
func (c *Context) SumRows(a Tensor) Tensor { return Tensor{C.ggml_sum_rows(c.p, a.p)} }

// Mean returns SumRows divided by n0.
func (c *Context) Mean(a Tensor) Tensor { return Tensor{C.ggml_mean(c.p, a.p)} }

// Repeat tiles a to the shape of b.
func (c *Context) Repeat(a, b Tensor) Tensor { return Tensor{C.ggml_repeat(c.p, a.p, b.p)} }

// RepeatBack sums the tiles of a into the shape of b.
func (c *Context) RepeatBack(a, b Tensor) Tensor { return Tensor{C.ggml_repeat_back(c.p, a.p, b.p)} }

// Concat joins a and b along dimension dim.
func (c *Context) Concat(a, b Tensor, dim int) Tensor {
	return Tensor{C.ggml_concat(c.p, a.p, b.p, C.int(dim))}
}

// Acc returns a with b added to the view of it that the strides nb1..nb3 and the offset, all in bytes, describe.
func (c *Context) Acc(a, b Tensor, nb1, nb2, nb3, offset int64) Tensor {
	return Tensor{C.ggml_acc(c.p, a.p, b.p, C.size_t(nb1), C.size_t(nb2), C.size_t(nb3), C.size_t(offset))}
}

// Norm subtracts the mean of each row and divides by its standard deviation; RMSNorm divides by its root mean square,
// L2Norm by its length, or by eps if that is longer.
func (c *Context) Norm(a Tensor, eps float32) Tensor {
	return Tensor{C.ggml_norm(c.p, a.p, C.float(eps))}
}
func (c *Context) RMSNorm(a Tensor, eps float32) Tensor {
	return Tensor{C.ggml_rms_norm(c.p, a.p, C.float(eps))}
}

func (c *Context) L2Norm(a Tensor, eps float32) Tensor {
	return Tensor{C.ggml_l2_norm(c.p, a.p, C.float(eps))}
}

// GetRows picks the rows ids (I32) of a: a [n, m], ids [k] → [n, k].
func (c *Context) GetRows(a, ids Tensor) Tensor { return Tensor{C.ggml_get_rows(c.p, a.p, ids.p)} }

// GetRowsBack returns zeros in the shape of like, [n, m], with row i of dy [n, k] added to its row ids[i] (I32).
func (c *Context) GetRowsBack(dy, ids, like Tensor) Tensor {
	return Tensor{C.ggml_get_rows_back(c.p, dy.p, ids.p, like.p)}
}

// SetRows returns a with its rows ids (I32) replaced by those of b, in the memory of a: a [n, m], b [n, k], ids [k].
func (c *Context) SetRows(a, b, ids Tensor) Tensor {
	return Tensor{C.ggml_set_rows(c.p, a.p, b.p, ids.p)}
}

// Matrices and attention.

// MulMat returns aᵀ·b over dimension 0, the two higher dimensions of a broadcast:
// a [k, n, p, q], b [k, m, P, Q] → [n, m, P, Q].
func (c *Context) MulMat(a, b Tensor) Tensor { return Tensor{C.ggml_mul_mat(c.p, a.p, b.p)} }

// Exact has a product summed in F32, where a backend would take half precision for it otherwise, and returns it.
func (t Tensor) Exact() Tensor { C.ggml_prec_set_acc(t.p, C.GGML_PREC_F32); return t }

// SoftMaxExt returns softmax(scale·a + slope·mask) by row; mask may be none; the slope is ALiBi's, 1 when maxBias is 0.
func (c *Context) SoftMaxExt(a, mask Tensor, scale, maxBias float32) Tensor {
	return Tensor{C.ggml_soft_max_ext(c.p, a.p, mask.p, C.float(scale), C.float(maxBias))}
}

// SoftMaxAddSinks gives the soft_max node t its attention sinks.
func (c *Context) SoftMaxAddSinks(t, sinks Tensor) { C.ggml_soft_max_add_sinks(t.p, sinks.p) }

// Rope rotates pairs of elements of a [head, n_head, N] by their position pos (I32 [N]) times a frequency; mode 0 pairs
// neighbours, 2 (NEOX) halves. freqFactors may be none.
func (c *Context) Rope(a, pos, freqFactors Tensor, dims, mode int, freqBase float32) Tensor {
	return Tensor{C.ggml_rope_ext(c.p, a.p, pos.p, freqFactors.p, C.int(dims), C.int(mode), 0,
		C.float(freqBase), 1, 0, 1, 32, 1)}
}

// Shapes.

// Cont copies a into contiguous memory.
func (c *Context) Cont(a Tensor) Tensor { return Tensor{C.ggml_cont(c.p, a.p)} }

// Cast copies a into another type.
func (c *Context) Cast(a Tensor, t Type) Tensor {
	return Tensor{C.ggml_cast(c.p, a.p, C.enum_ggml_type(t))}
}

// Reshape returns a contiguous tensor seen in another shape.
func (c *Context) Reshape(a Tensor, ne ...int64) Tensor {
	s := [4]C.int64_t{1, 1, 1, 1}
	for i, n := range ne {
		s[i] = C.int64_t(n)
	}
	return Tensor{C.ggml_reshape_4d(c.p, a.p, s[0], s[1], s[2], s[3])}
}

// View returns a window on a: shape ne, strides nb[1..3] and the offset in bytes.
func (c *Context) View(a Tensor, ne, nb [4]int64, offset int64) Tensor {
	return Tensor{C.ggml_view_4d(c.p, a.p, C.int64_t(ne[0]), C.int64_t(ne[1]), C.int64_t(ne[2]), C.int64_t(ne[3]),
		C.size_t(nb[1]), C.size_t(nb[2]), C.size_t(nb[3]), C.size_t(offset))}
}

// Permute moves axis i of a to axis axes[i] of the result.
func (c *Context) Permute(a Tensor, axes [4]int) Tensor {
	return Tensor{C.ggml_permute(c.p, a.p, C.int(axes[0]), C.int(axes[1]), C.int(axes[2]), C.int(axes[3]))}
}

// Transpose swaps dimensions 0 and 1.
func (c *Context) Transpose(a Tensor) Tensor { return Tensor{C.ggml_transpose(c.p, a.p)} }
