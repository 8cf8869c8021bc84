// Products with W + s·B·A and the gradients of A [n_in, r] and B [r, n_out]; lora.c.
#ifndef FINETUNE_KERNELS_LORA_H
#define FINETUNE_KERNELS_LORA_H

#include "kernels.h"

void ft_lora_mul(tensor dst, int ith, int nth, void *userdata);
void ft_lora_mul_t(tensor dst, int ith, int nth, void *userdata);

void ft_lora_inner(tensor dst, int ith, int nth, void *userdata);
void ft_lora_outer(tensor dst, int ith, int nth, void *userdata);

// The scratch memory that a thread takes for a node, in floats.
size_t ft_lora_mul_scratch(const struct ggml_tensor *dst, bool transposed);
size_t ft_lora_inner_scratch(const struct ggml_tensor *dst);
size_t ft_lora_outer_scratch(const struct ggml_tensor *dst);

#endif
