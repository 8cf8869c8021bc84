package ggml

/*
#include "kernel_lora.h"
#include "gemm.h"

static tensor ft_new_lora(ggml_object ctx, bool transposed, tensor w, tensor x, tensor a, tensor b, float scale) {
	tensor args[4] = { w, x, a, b };
	return ft_set_param(ggml_custom_4d(ctx, 0, w->ne[transposed ? 0 : 1], x->ne[1], x->ne[2], x->ne[3], args, 4,
		transposed ? ft_lora_mul_mat_t : ft_lora_mul_mat, -1, NULL), 0, scale);
}
static tensor ft_new_lora_grads(ggml_object ctx, tensor x, tensor dy, tensor a, tensor b, float scale) {
	tensor args[4] = { x, dy, a, b };
	tensor inner = ft_set_param(ggml_custom_4d(ctx, 0, ft_up(a->ne[1], 4), x->ne[1] * x->ne[2] * x->ne[3], 2, 1,
		args, 4, ft_lora_inner, -1, NULL), 0, scale);
	tensor sums[5] = { inner, x, dy, a, b };
	return ggml_custom_4d(ctx, 0, (a->ne[0] + b->ne[1]) * a->ne[1], 1, 1, 1, sums, 5, ft_lora_outer, -1, NULL);
}
*/
import "C"

// LoRAMulMat is MulMat32 of w + s·B·A with x, for a [n_in, r] and b [r, n_out], F32: the sum is formed block by block
// inside the product. Where b is 0 it is MulMat32 to the bit.
func (c *Context) LoRAMulMat(w, x, a, b Tensor, scale float32) Tensor {
	mustMultiply("LoRAMulMat", w, x, 0)
	mustBeLoRA("LoRAMulMat", w.NE()[0], w.NE()[1], a, b)
	return Tensor{C.ft_new_lora(c.p, false, w.p, x.p, a.p, b.p, C.float(scale))}
}

// LoRAMulMatT is MulMatT32 of the same sum with dy.
func (c *Context) LoRAMulMatT(w, dy, a, b Tensor, scale float32) Tensor {
	mustMultiply("LoRAMulMatT", w, dy, 1)
	mustBeLoRA("LoRAMulMatT", w.NE()[0], w.NE()[1], a, b)
	return Tensor{C.ft_new_lora(c.p, true, w.p, dy.p, a.p, b.p, C.float(scale))}
}

// LoRAGrads are the gradients of the factors of y = W·x + s·B·A·x, for x [n_in, N, …], dy [n_out, N, …], a [n_in, r] and
// b [r, n_out], all F32:
//
//	dA = s·Bᵀ·dy·xᵀ   dB = s·dy·(A·x)ᵀ
//
// all is one vector, [dA | dB], and the two are views of it in the factors' shapes. It runs on the CPU; the result does
// not depend on the number of threads.
func (c *Context) LoRAGrads(x, dy, a, b Tensor, scale float32) (all, da, db Tensor) {
	const op = "LoRAGrads"
	if x.Type() != F32 || !evenRows(x) {
		misuse(op, "x", x)
	}
	if xn, yn := x.NE(), dy.NE(); dy.Type() != F32 || !evenRows(dy) || [3]int64(xn[1:]) != [3]int64(yn[1:]) {
		misuse(op, "dy", dy)
	}
	mustBeLoRA(op, x.NE()[0], dy.NE()[0], a, b)
	all = Tensor{C.ft_new_lora_grads(c.p, x.p, dy.p, a.p, b.p, C.float(scale))}
	return all, c.View(all, a.NE(), a.NB(), 0), c.View(all, b.NE(), b.NB(), a.Bytes())
}

func mustBeLoRA(op string, nIn, nOut int64, a, b Tensor) {
	r := a.NE()[1]
	if a.Type() != F32 || !a.IsContiguous() || a.NE() != [4]int64{nIn, r, 1, 1} {
		misuse(op, "a", a)
	}
	if b.Type() != F32 || !b.IsContiguous() || b.NE() != [4]int64{r, nOut, 1, 1} {
		misuse(op, "b", b)
	}
}
