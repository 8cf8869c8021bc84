// A weight W [n_in, n_out] of any ggml type as the B operand of the packed product, and the products with it.
#ifndef FINETUNE_KERNELS_WEIGHT_H
#define FINETUNE_KERNELS_WEIGHT_H

#include "gemm.h"

struct ft_weight {
	struct ft_source source;
	const char *data;
	int64_t n_in, n_out;
	size_t row_bytes, block_bytes;
	int64_t block;
	int type;
	void (*to_float)(const void *x, float *y, int64_t k);
};

// The columns of B are W's rows (y = W·x, steps along n_in), or W's columns (dx = Wᵀ·dy, steps along n_out).
struct ft_weight ft_weight_rows(tensor w);
struct ft_weight ft_weight_columns(tensor w);

// Thread ith's part of dst = S·x for S with so many steps, x the node's operand 1.
void ft_multiply(tensor dst, const struct ft_source *s, int64_t steps, int ith, int nth);

void ft_weight_mul(tensor dst, int ith, int nth, void *userdata);
void ft_weight_mul_t(tensor dst, int ith, int nth, void *userdata);

// The scratch memory that a thread takes for either, in floats.
size_t ft_weight_scratch(const struct ggml_tensor *dst);

#endif
