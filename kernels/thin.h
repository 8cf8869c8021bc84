// The gradients of a Dual LoRA whose magnitude has one rank; thin.c, dual_grads.c.
#ifndef FINETUNE_KERNELS_THIN_H
#define FINETUNE_KERNELS_THIN_H

#include "kernels.h"

void ft_thin_factors(tensor dst, int ith, int nth, void *userdata);
void ft_thin_grads(tensor dst, int ith, int nth, void *userdata);
void ft_byte_grads(tensor dst, int ith, int nth, void *userdata);
void ft_thin_sum(tensor dst, int ith, int nth, void *userdata);
void ft_thin_directions(tensor dst, int ith, int nth, void *userdata);

#endif
