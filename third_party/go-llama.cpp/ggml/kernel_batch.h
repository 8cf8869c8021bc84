// Products of F32 matrices head by head, as in attention, over any layout in which one of the first two dimensions is
// contiguous; kernel_batch.c.
#ifndef FINETUNE_KERNEL_BATCH_H
#define FINETUNE_KERNEL_BATCH_H

#include "gemm.h"

void ft_batch_mul(tensor dst, int ith, int nth, void *userdata);
void ft_batch_mul_t(tensor dst, int ith, int nth, void *userdata);
void ft_batch_outer(tensor dst, int ith, int nth, void *userdata);

#endif
