// The gradients of a Dual LoRA whose magnitude has one rank; thin.c, dual_grads.c.
#ifndef FINETUNE_KERNELS_THIN_H
#define FINETUNE_KERNELS_THIN_H

#include "kernels.h"

void ft_thin_factors(tensor dst, int ith, int nth, void *userdata);
void ft_thin_grads(tensor dst, int ith, int nth, void *userdata);
void ft_thin_sum(tensor dst, int ith, int nth, void *userdata);

// dC [n_in, r] and then dD [r, n_out] from the gradients of the LoRA's factors, a thread's share of them.
void ft_thin_directions(const float *a, const float *b, int64_t n_in, int64_t n_out, int64_t r, const float *lora, float *out, int ith, int nth);

#endif
