// Gradients that are added to a total where it is kept; total.c.
#ifndef FINETUNE_KERNELS_TOTAL_H
#define FINETUNE_KERNELS_TOTAL_H

#include "kernels.h"

void ft_add_rows(tensor dst, int ith, int nth, void *userdata);
void ft_add_sums(tensor dst, int ith, int nth, void *userdata);
void ft_add_squares(tensor dst, int ith, int nth, void *userdata);

#endif
