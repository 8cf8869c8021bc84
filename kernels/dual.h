// Products with W + s·ReLU(B·A) ⊙ sign(D·C), and the gradients of A [n_in, r1], B [r1, n_out], C [n_in, r2] and
// D [r2, n_out]; dual.c, dual_grads.c.
#ifndef FINETUNE_KERNELS_DUAL_H
#define FINETUNE_KERNELS_DUAL_H

#include "kernels.h"

void ft_dual_mul(tensor dst, int ith, int nth, void *userdata);
void ft_dual_mul_t(tensor dst, int ith, int nth, void *userdata);

// How many shares of dA and dC the gradients are summed in, for ranks r1 + r2.
int64_t ft_dual_parts(int64_t n_in, int64_t n_out, int64_t ranks);
void ft_dual_grads(tensor dst, int ith, int nth, void *userdata);
void ft_dual_sum(tensor dst, int ith, int nth, void *userdata);

// The scratch memory that a thread takes for a node, in floats.
size_t ft_dual_mul_scratch(const struct ggml_tensor *dst, bool transposed);
size_t ft_dual_grads_scratch(const struct ggml_tensor *dst);
size_t ft_byte_grads_scratch(const struct ggml_tensor *dst);

#endif
