// The factors of ΔW, as the products with W + ΔW take them (lora.c, dual.c).
//
// They decorate a weight: its own source packs a block of W, and ΔW is added to the packed block while it lies in the cache.
// There a step is one index of W and a column the other; a left factor belongs to the steps, a right one to the columns.
#ifndef FINETUNE_KERNELS_FACTOR_H
#define FINETUNE_KERNELS_FACTOR_H

#include "gemm.h"

// A [n_in, r], with an index along n_in, or B [r, n_out], with one along n_out: element i at rank q is data[i·line + q·rank].
struct ft_factor {
	const float *data;
	int64_t line, rank, n, r;
};

struct ft_factor ft_factor_a(const struct ggml_tensor *a);
struct ft_factor ft_factor_b(const struct ggml_tensor *b);

// Elements [i0, i1) of f, times scale, as panels [r][step] of `width` elements each, 0 after the last.
void ft_pack_factor(const struct ft_factor *f, int64_t i0, int64_t i1, float scale, int64_t width, int64_t step, float *out);

#endif
