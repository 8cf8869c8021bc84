// Kernels of our own, as ggml custom operations on the CPU. Each is called by every thread ith of nth; the rows are dealt
// out so that the result does not depend on nth.
#ifndef FINETUNE_KERNELS_H
#define FINETUNE_KERNELS_H

#include "tensor.h"

typedef void (*ft_kernel)(tensor dst, int ith, int nth, void *userdata);

void ft_cross_entropy(tensor dst, int ith, int nth, void *userdata);
void ft_distill(tensor dst, int ith, int nth, void *userdata);

// Products with a weight of any type; gemm.h, mul.c.
void ft_weight_mul(tensor dst, int ith, int nth, void *userdata);
void ft_weight_mul_t(tensor dst, int ith, int nth, void *userdata);
void ft_dual_mul(tensor dst, int ith, int nth, void *userdata);
void ft_dual_mul_t(tensor dst, int ith, int nth, void *userdata);

// Gradients of a Dual LoRA's factors; dual.c.
int64_t ft_dual_parts(int64_t n_in, int64_t n_out, int64_t ranks);
void ft_dual_grads(tensor dst, int ith, int nth, void *userdata);
void ft_dual_sum(tensor dst, int ith, int nth, void *userdata);

// Norms, rotations and derivatives by rows; rows.c.
void ft_rms_norm_mul(tensor dst, int ith, int nth, void *userdata);
void ft_rotate(tensor dst, int ith, int nth, void *userdata);
void ft_rms_norm_back(tensor dst, int ith, int nth, void *userdata);
void ft_soft_max_back(tensor dst, int ith, int nth, void *userdata);
void ft_swiglu_back(tensor dst, int ith, int nth, void *userdata);
void ft_swiglu_back_fused(tensor dst, int ith, int nth, void *userdata);

// The scratch memory that a thread takes for a node, in floats, which is known before the node has any memory of its own.
size_t ft_mul_scratch(const struct ggml_tensor *dst, bool adapted);
size_t ft_lora_mul_scratch(const struct ggml_tensor *dst, bool transposed);
size_t ft_lora_inner_scratch(const struct ggml_tensor *dst);
size_t ft_lora_outer_scratch(const struct ggml_tensor *dst);
size_t ft_dual_scratch(const struct ggml_tensor *dst);
size_t ft_batch_scratch(void);

#endif
