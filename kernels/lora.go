package kernels

// #include "lora.h"
import "C"

import (
	"unsafe"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

var (
	loraMul = newKernel("LORA_MUL", unsafe.Pointer(C.ft_lora_mul),
		func(node C.tensor) uint64 { return uint64(C.ft_lora_mul_scratch(node, false)) })
	loraMulT = newKernel("LORA_MUL_T", unsafe.Pointer(C.ft_lora_mul_t),
		func(node C.tensor) uint64 { return uint64(C.ft_lora_mul_scratch(node, true)) })
	loraInner = newKernel("LORA_INNER", unsafe.Pointer(C.ft_lora_inner),
		func(node C.tensor) uint64 { return uint64(C.ft_lora_inner_scratch(node)) })
	loraOuter = newKernel("LORA_OUTER", unsafe.Pointer(C.ft_lora_outer),
		func(node C.tensor) uint64 { return uint64(C.ft_lora_outer_scratch(node)) })
)

// LoRAMul multiplies w + s·B·A with x as WeightMul does, for a [n_in, r] and b [r, n_out], F32: the sum is formed block by block inside
// the product. Where b is 0 it is WeightMul to the bit.
func LoRAMul(c *ggml.Context, w, x, a, b ggml.Tensor, scale float32) ggml.Tensor {
	mustMultiply("LoRAMul", w, x, 0)
	mustBeLoRA("LoRAMul", w.NE()[0], w.NE()[1], a, b)
	return loraMul.node(c, productShape(w, x, 1), params{scale}, w, x, a, b)
}

// LoRAMulT multiplies the same sum with dy as WeightMulT does.
func LoRAMulT(c *ggml.Context, w, dy, a, b ggml.Tensor, scale float32) ggml.Tensor {
	mustMultiply("LoRAMulT", w, dy, 1)
	mustBeLoRA("LoRAMulT", w.NE()[0], w.NE()[1], a, b)
	return loraMulT.node(c, productShape(w, dy, 0), params{scale}, w, dy, a, b)
}

// LoRAGrads computes the gradients of the factors of y = W·x + s·B·A·x, for x [n_in, N, …], dy [n_out, N, …], a [n_in, r] and
// b [r, n_out], all F32:
//
//	dA = s·Bᵀ·dy·xᵀ   dB = s·dy·(A·x)ᵀ
//
// all is one vector, [dA | dB], and the two are views of it in the factors' shapes.
func LoRAGrads(c *ggml.Context, x, dy, a, b ggml.Tensor, scale float32) (all, da, db ggml.Tensor) {
	nIn, nOut, r := x.NE()[0], dy.NE()[0], a.NE()[1]
	mustPair("LoRAGrads", x, dy)
	mustBeLoRA("LoRAGrads", nIn, nOut, a, b)
	ranks := (r + 3) / 4 * 4
	inner := loraInner.node(c, [4]int64{ranks, x.Elements() / nIn, 2, 1}, params{scale}, x, dy, a, b)
	all = loraOuter.node(c, [4]int64{(nIn + nOut) * r, 1, 1, 1}, nil, inner, x, dy, a, b)
	return all, c.View(all, a.NE(), a.NB(), 0), c.View(all, b.NE(), b.NB(), a.Bytes())
}

func mustBeLoRA(op string, nIn, nOut int64, a, b ggml.Tensor) {
	r := a.NE()[1]
	if !isMatrix(a, nIn, r) {
		misuse(op, "a", a)
	}
	if !isMatrix(b, r, nOut) {
		misuse(op, "b", b)
	}
}
