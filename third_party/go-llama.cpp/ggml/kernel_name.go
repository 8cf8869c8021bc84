package ggml

/*
#include <string.h>
#include "kernel_attention.h"
#include "kernel_lora.h"
#include "kernel_total.h"

// ggml keeps the function of a custom operation in the first word of its parameters.
static ft_kernel ft_kernel_of(tensor t) {
	ft_kernel f;
	memcpy(&f, t->op_params, sizeof f);
	return f;
}
static const char *ft_kernel_name(tensor t) {
	ft_kernel f = ft_kernel_of(t);
	if (f == ft_cross_entropy) return "cross entropy";
	if (f == ft_distill) return "distillation";
	if (f == ft_mul_mat) return "W·x";
	if (f == ft_mul_mat_t) return "Wᵀ·dy";
	if (f == ft_batch_mul) return "BATCH_MUL";
	if (f == ft_batch_mul_t) return "BATCH_MUL back, second";
	if (f == ft_batch_outer) return "BATCH_MUL back, first";
	if (f == ft_attention) return "ATTENTION";
	if (f == ft_attention_back) return "ATTENTION back";
	if (f == ft_attention_sum) return "ATTENTION back, sums";
	if (f == ft_mask_spans) return "mask spans";
	if (f == ft_batch_outer_add) return "weight gradient";
	if (f == ft_add_rows) return "GET_ROWS back";
	if (f == ft_add_sums) return "sums over tokens";
	if (f == ft_add_squares) return "squares of inputs";
	if (f == ft_dual_mul_mat) return "(W+ΔW)·x";
	if (f == ft_dual_mul_mat_t) return "(W+ΔW)ᵀ·dy";
	if (f == ft_lora_mul_mat) return "(W+s·B·A)·x";
	if (f == ft_lora_mul_mat_t) return "(W+s·B·A)ᵀ·dy";
	if (f == ft_lora_inner || f == ft_lora_outer) return "factor gradients";
	if (f == ft_dual_grads) return "factor gradients";
	if (f == ft_dual_sum) return "factor sums";
	if (f == ft_rms_norm_mul) return "RMS_NORM_MUL";
	if (f == ft_rotate) return "ROTATE";
	if (f == ft_rms_norm_back) return "RMS_NORM back";
	if (f == ft_soft_max_back) return "SOFT_MAX back";
	if (f == ft_swiglu_back || f == ft_swiglu_back_fused) return "SWIGLU back";
	return "";
}
// The scratch memory that a thread takes for a node of ours, in floats.
static size_t ft_scratch_of(tensor t) {
	ft_kernel f = ft_kernel_of(t);
	if (f == ft_mul_mat || f == ft_mul_mat_t) return ft_mul_scratch(t, false);
	if (f == ft_dual_mul_mat || f == ft_dual_mul_mat_t) return ft_mul_scratch(t, true);
	if (f == ft_lora_mul_mat || f == ft_lora_mul_mat_t) return ft_lora_mul_scratch(t, f == ft_lora_mul_mat_t);
	if (f == ft_batch_mul || f == ft_batch_mul_t || f == ft_batch_outer || f == ft_batch_outer_add) return ft_batch_scratch();
	if (f == ft_attention || f == ft_attention_back) return ft_attention_scratch(t, f == ft_attention_back);
	if (f == ft_rotate) return (size_t)(2 * t->src[1]->ne[0]);
	if (f == ft_lora_inner) return ft_lora_inner_scratch(t);
	if (f == ft_lora_outer) return ft_lora_outer_scratch(t);
	if (f == ft_dual_grads) return ft_dual_scratch(t);
	return 0;
}
*/
import "C"

// Kernel is the name of the kernel of ours that computes the node, empty for an operation of ggml's.
func (t Tensor) Kernel() string {
	if t.p.op == 0 || t.Op() != "CUSTOM" {
		return ""
	}
	return C.GoString(C.ft_kernel_name(t.p))
}

// Scratch is the memory in bytes that each thread takes from the kernels' pool to compute the node. Neither the node nor
// its operands need memory for the answer.
func (t Tensor) Scratch() int64 {
	if t.p.op == 0 || t.Op() != "CUSTOM" {
		return 0
	}
	return int64(C.ft_piece_bytes(C.ft_scratch_of(t.p)))
}
