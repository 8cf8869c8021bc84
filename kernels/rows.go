package kernels

// #include "kernels.h"
import "C"

import (
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

var (
	rmsNormMul      = newKernel("RMS_NORM_MUL", unsafe.Pointer(C.ft_rms_norm_mul), nil)
	rmsNormBack     = newKernel("RMS_NORM_BACK", unsafe.Pointer(C.ft_rms_norm_back), nil)
	layerNormMul    = newKernel("NORM_MUL", unsafe.Pointer(C.ft_layer_norm_mul), nil)
	layerNormBack   = newKernel("NORM_BACK", unsafe.Pointer(C.ft_layer_norm_back), nil)
	gelu            = newKernel("GELU_ROWS", unsafe.Pointer(C.ft_gelu), nil)
	geluBack        = newKernel("GELU_BACK", unsafe.Pointer(C.ft_gelu_back), nil)
	rotate          = newKernel("ROTATE", unsafe.Pointer(C.ft_rotate), func(node C.tensor) uint64 { return uint64(2 * node.src[1].ne[0]) })
	softMaxBack     = newKernel("SOFT_MAX_BACK", unsafe.Pointer(C.ft_soft_max_back), nil)
	swigluBack      = newKernel("SWIGLU_BACK", unsafe.Pointer(C.ft_swiglu_back), nil)
	swigluBackFused = newKernel("SWIGLU_BACK_FUSED", unsafe.Pointer(C.ft_swiglu_back_fused), nil)
)

// The operations below go by rows. None is computed in the memory of an operand. Operands are F32 of one shape, their rows
// at one distance from each other.

// RMSNormBack computes dx for y = x/√(mean(x²) + eps) by rows of n: (dy − y·mean(dy ⊙ y))/√(mean(x²) + eps).
func RMSNormBack(c *ggml.Context, x, dy ggml.Tensor, eps float32) ggml.Tensor {
	mustBeRows("RMSNormBack", x, dy)
	return rmsNormBack.node(c, x.NE(), params{eps}, x, dy)
}

// RMSNormMul computes w ⊙ x/√(mean(x²) + eps) by rows of n, w [n]. RMSNormMulBack computes its dx.
func RMSNormMul(c *ggml.Context, x, w ggml.Tensor, eps float32) ggml.Tensor {
	mustBeRows("RMSNormMul", x, x)
	mustBeNormWeight("RMSNormMul", x, w)
	return rmsNormMul.node(c, x.NE(), params{eps}, x, w)
}
func RMSNormMulBack(c *ggml.Context, x, w, dy ggml.Tensor, eps float32) ggml.Tensor {
	mustBeRows("RMSNormMulBack", x, dy)
	mustBeNormWeight("RMSNormMulBack", x, w)
	return rmsNormBack.node(c, x.NE(), params{eps}, x, dy, w)
}

// NormBack computes dx for y = (x − mean(x))/r, r = √(variance(x) + eps), by rows of n: (dy − mean(dy) − y·mean(dy ⊙ y))/r.
func NormBack(c *ggml.Context, x, dy ggml.Tensor, eps float32) ggml.Tensor {
	mustBeRows("NormBack", x, dy)
	return layerNormBack.node(c, x.NE(), params{eps}, x, dy)
}

// NormMul computes w ⊙ (x − mean(x))/√(variance(x) + eps) by rows of n, w [n]. NormMulBack computes its dx.
func NormMul(c *ggml.Context, x, w ggml.Tensor, eps float32) ggml.Tensor {
	mustBeRows("NormMul", x, x)
	mustBeNormWeight("NormMul", x, w)
	return layerNormMul.node(c, x.NE(), params{eps}, x, w)
}
func NormMulBack(c *ggml.Context, x, w, dy ggml.Tensor, eps float32) ggml.Tensor {
	mustBeRows("NormMulBack", x, dy)
	mustBeNormWeight("NormMulBack", x, w)
	return layerNormBack.node(c, x.NE(), params{eps}, x, dy, w)
}

// Gelu computes y = ½x·(1 + tanh(√(2/π)·(x + 0.044715·x³))). With rounded x and y are half-precision numbers, y = 0 up to −10 and y = x
// from 10 on: what ggml's GELU reads from its table, without the reading (ggml_vec_gelu_f32 in ggml-cpu/vec.h).
func Gelu(c *ggml.Context, x ggml.Tensor, rounded bool) ggml.Tensor {
	mustBeRows("Gelu", x, x)
	return gelu.node(c, x.NE(), params{flag(rounded)}, x)
}

// CanGelu reports whether the rows of x lie as Gelu wants them.
func CanGelu(x ggml.Tensor) bool { return evenRows(x) }

// GeluBack computes dx for y = ½x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), what ggml's GELU reads from a table.
func GeluBack(c *ggml.Context, x, dy ggml.Tensor) ggml.Tensor {
	mustBeRows("GeluBack", x, dy)
	return geluBack.node(c, x.NE(), nil, x, dy)
}

// RopeTable holds the angles of a ROPE node for Rotate: what the node's rotation makes of ones, [dims, 1, N], whatever
// scaling of frequencies and magnitudes it knows. pos are the positions [N]. All nodes with equal parameters can share one.
func RopeTable(c *ggml.Context, node, pos, freqFactors ggml.Tensor) ggml.Tensor {
	ne := [4]int64{int64(node.Param(1)), 1, pos.NE()[0], 1}
	return c.Like(node, ne, c.Fill(c.NewTensor(ggml.F32, ne[:3]...), 1), pos, freqFactors)
}

// CanRotate reports whether Rotate does what a ROPE node over x [n, heads, N] does: pairs of neighbours (mode 0) or of
// halves (mode 2) from the first element on, by one position a token.
func CanRotate(node, x, pos ggml.Tensor) bool {
	ne, dims, mode, offset := x.NE(), int64(node.Param(1)), node.Param(2), node.Param(15)
	return x.Type() == ggml.F32 && x.NB()[0] == 4 && ne[3] == 1 && pos.NE() == [4]int64{ne[2], 1, 1, 1} &&
		(mode == 0 || mode == 2) && offset == 0 && dims%2 == 0 && dims <= ne[0]
}

// Rotate does ROPE on x [n, heads, N] by a RopeTable: pairs of neighbours, or of halves. Back is the transposed rotation,
// with the same magnitude: the gradient of x.
func Rotate(c *ggml.Context, x, table ggml.Tensor, back, halves bool) ggml.Tensor {
	if ne, tn := x.NE(), table.NE(); x.Type() != ggml.F32 || x.NB()[0] != 4 || ne[3] != 1 || tn[0] > ne[0] || tn[2] != ne[2] {
		misuse("Rotate", "x", x)
	}
	return rotate.node(c, x.NE(), params{flag(back), flag(halves)}, x, table)
}

// SoftMaxBack computes dx for y = softmax(scale·x + mask) by rows: scale·y ⊙ (dy − Σ dy ⊙ y).
func SoftMaxBack(c *ggml.Context, y, dy ggml.Tensor, scale float32) ggml.Tensor {
	mustBeRows("SoftMaxBack", y, dy)
	return softMaxBack.node(c, y.NE(), params{scale}, y, dy)
}

// SwigluBack computes dg and du for y = silu(g) ⊙ u, two views of one node: du = dy ⊙ silu(g), dg = dy ⊙ u ⊙ σ·(1 + g·(1 − σ))
// with σ = 1/(1 + e^−g).
func SwigluBack(c *ggml.Context, g, u, dy ggml.Tensor) (dg, du ggml.Tensor) {
	mustBeRows("SwigluBack", g, u)
	mustBeRows("SwigluBack", g, dy)
	ne := g.NE()
	both := swigluBack.node(c, [4]int64{ne[0], g.Elements() / ne[0], 2, 1}, nil, g, u, dy)
	return part(c, both, 0, ne[0], ne[1], ne[2], ne[3]), part(c, both, 4*g.Elements(), ne[0], ne[1], ne[2], ne[3])
}

// SwigluBackFused computes dx for y = silu(g) ⊙ u of the halves of the rows of x [2n, …], g first, or u first when swapped;
// dy is [n, …].
func SwigluBackFused(c *ggml.Context, x, dy ggml.Tensor, swapped bool) ggml.Tensor {
	ne, half := x.NE(), dy.NE()
	if !evenRows(x) {
		misuse("SwigluBackFused", "x", x)
	}
	if half[0] *= 2; !evenRows(dy) || half != ne {
		misuse("SwigluBackFused", "dy", dy)
	}
	return swigluBackFused.node(c, x.NE(), params{flag(swapped)}, x, dy)
}

// flag is a parameter that is set or not.
func flag(set bool) float32 {
	if set {
		return 1
	}
	return 0
}

func mustBeRows(op string, x, dy ggml.Tensor) {
	if !evenRows(x) {
		misuse(op, "x", x)
	}
	if !evenRows(dy) || !dy.SameShape(x) {
		misuse(op, "dy", dy)
	}
}

func mustBeNormWeight(op string, x, w ggml.Tensor) {
	if !isMatrix(w, x.NE()[0], 1) {
		misuse(op, "w", w)
	}
}
