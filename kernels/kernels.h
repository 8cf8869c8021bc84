// Kernels of our own, as ggml custom operations on the CPU. Each is called by every thread ith of nth; the rows are dealt
// out so that the result does not depend on nth.
#ifndef FINETUNE_KERNELS_H
#define FINETUNE_KERNELS_H

#include "tensor.h"

// The rows of a tensor, of any higher dimensions, and one of those that lie evenly; evenRows in Go.
static inline int64_t ft_rows(const struct ggml_tensor *t) { return t->ne[1] * t->ne[2] * t->ne[3]; }
static inline float *ft_row(const struct ggml_tensor *t, int64_t i) { return (float *)((char *)t->data + (size_t)i * t->nb[1]); }

// Before a node has memory of its own it is known how much scratch memory each thread will take for it: ft_…_scratch.
typedef void (*ft_kernel)(tensor dst, int ith, int nth, void *userdata);

void ft_cross_entropy(tensor dst, int ith, int nth, void *userdata);
void ft_distill(tensor dst, int ith, int nth, void *userdata);

// Norms, rotations and derivatives by rows; rows.c.
void ft_rms_norm_mul(tensor dst, int ith, int nth, void *userdata);
void ft_rotate(tensor dst, int ith, int nth, void *userdata);
void ft_rms_norm_back(tensor dst, int ith, int nth, void *userdata);
void ft_layer_norm_mul(tensor dst, int ith, int nth, void *userdata);
void ft_layer_norm_back(tensor dst, int ith, int nth, void *userdata);
void ft_gelu(tensor dst, int ith, int nth, void *userdata);
void ft_gelu_back(tensor dst, int ith, int nth, void *userdata);
void ft_soft_max_back(tensor dst, int ith, int nth, void *userdata);
void ft_swiglu_back(tensor dst, int ith, int nth, void *userdata);
void ft_swiglu_back_fused(tensor dst, int ith, int nth, void *userdata);

#endif
