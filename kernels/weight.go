package kernels

// #include "weight.h"
import "C"

import (
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

var (
	weightMul  = newKernel("WEIGHT_MUL", unsafe.Pointer(C.ft_weight_mul), weightScratch)
	weightMulT = newKernel("WEIGHT_MUL_T", unsafe.Pointer(C.ft_weight_mul_t), weightScratch)
)

func weightScratch(node C.tensor) uint64 { return uint64(C.ft_weight_scratch(node)) }

// WeightMul multiplies a matrix w [n_in, n_out] of any type that can be dequantized with x [n_in, N, …] F32, in full
// float32 precision: [n_out, N, …]. Each block of w is dequantized once for all N.
func WeightMul(c *ggml.Context, w, x ggml.Tensor) ggml.Tensor {
	mustMultiply("WeightMul", w, x, 0)
	return weightMul.node(c, productShape(w, x, 1), nil, w, x)
}

// WeightMulT multiplies with the transposed matrix: w [n_in, n_out], dy [n_out, N, …] F32 → [n_in, N, …],
// Σ_o w[:, o]·dy[o, :]. Otherwise as WeightMul.
func WeightMulT(c *ggml.Context, w, dy ggml.Tensor) ggml.Tensor {
	mustMultiply("WeightMulT", w, dy, 1)
	return weightMulT.node(c, productShape(w, dy, 0), nil, w, dy)
}

// productShape is that of x with dimension dim of w in the place of its first.
func productShape(w, x ggml.Tensor, dim int) [4]int64 {
	ne := x.NE()
	ne[0] = w.NE()[dim]
	return ne
}

// mustMultiply checks the operands of a product whose sum runs over dimension dim of w.
func mustMultiply(op string, w, x ggml.Tensor, dim int) {
	ne, nb := w.NE(), w.NB()
	switch {
	case !w.Type().CanDequantize() || ne[2] != 1 || ne[3] != 1 || nb[0] != w.Type().BlockBytes():
		misuse(op, "w", w)
	case x.NE()[0] != ne[dim] || !evenRows(x):
		misuse(op, "x", x)
	}
}

// mustPair checks x [n_in, N, …] and dy [n_out, N, …] of a gradient.
func mustPair(op string, x, dy ggml.Tensor) {
	xn, yn := x.NE(), dy.NE()
	switch {
	case !evenRows(x):
		misuse(op, "x", x)
	case !evenRows(dy) || [3]int64(xn[1:]) != [3]int64(yn[1:]):
		misuse(op, "dy", dy)
	}
}
