// A weight W [n_in, n_out] of any ggml type as the B operand of the packed product, with or without a Dual LoRA term.
#ifndef FINETUNE_KERNEL_WEIGHT_H
#define FINETUNE_KERNEL_WEIGHT_H

#include "gemm.h"

// The factors of ΔW = s·ReLU(B·A) ⊙ sign(D·C): a [n_in, r1], b [r1, n_out], c [n_in, r2], d [r2, n_out], contiguous.
// r1 = 0 stands for no term.
struct ft_factors {
	const float *a, *b, *c, *d;
	int64_t n_in, r1, r2;
	float s;
};

struct ft_weight {
	struct ft_source source;
	const char *data;
	int64_t n_in, n_out;
	size_t row_bytes, block_bytes;
	int64_t block;
	int type;
	void (*to_float)(const void *x, float *y, int64_t k);
	struct ft_factors term;
};

// The columns of B are W's rows (y = W·x, steps along n_in), or W's columns (dx = Wᵀ·dy, steps along n_out).
struct ft_weight ft_weight_rows(tensor w, struct ft_factors term);
struct ft_weight ft_weight_columns(tensor w, struct ft_factors term);

// Copies columns [i0, i1) of a factor f [n_in, r] to rows `stride` apart, each followed by at least `pad` zeros.
void ft_copy_factor(const float *f, int64_t n_in, int64_t r, int64_t i0, int64_t i1, float *out, int64_t stride, int64_t pad);

#endif
