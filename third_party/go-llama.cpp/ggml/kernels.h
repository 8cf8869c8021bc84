// Kernels of our own, as ggml custom operations on the CPU. Each is called by every thread ith of nth; the rows are dealt
// out so that the result does not depend on nth.
#ifndef FINETUNE_KERNELS_H
#define FINETUNE_KERNELS_H

#include "abi.h"

typedef void (*ft_kernel)(tensor dst, int ith, int nth, void *userdata);

tensor ggml_custom_4d(ggml_object ctx, int type, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3,
	tensor *args, int n_args, ft_kernel fun, int n_tasks, void *userdata);

void ft_cross_entropy(tensor dst, int ith, int nth, void *userdata);

#endif
