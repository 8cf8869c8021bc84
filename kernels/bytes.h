// Products of 8-bit integers for G = dL/dΔW, where the CPU multiplies four of them for each lane of a vector at once:
// a quarter of the multiply-adds that F32 takes. What that costs in precision is said in bytes.c.
#ifndef FINETUNE_KERNELS_BYTES_H
#define FINETUNE_KERNELS_BYTES_H

#include "gemm.h"

enum { FT_BYTE_BLOCK = 256 }; // tokens that share a scale: a multiple of 4

// What one instruction set offers, for the same tiles of MR×NR as its struct ft_simd.
struct ft_bytes {
	int width; // from a word of a strip of MR columns of dy to the next: MR rounded up to whole vectors
	// Σ x² over n floats.
	float (*squares)(const float *x, int64_t n);
	// `lanes` columns of `tokens` rows of floats, stride apart and row t times by[t], as integers of at most 127: word
	// q·step + l of out has tokens 4q to 4q+3 of column l, a byte each, 0 for those past the end, in steps of
	// scale[l]. x is what the dot product may take unsigned, with 128 added; of dy there is the sum of each column.
	void (*quantize)(const float *rows, int64_t stride, const float *by, int64_t tokens, bool x, uint32_t *out, int64_t step,
		float *scale, int32_t *sum);
	// c[m·ldc + n] = (add ? c : 0) + Σ dy·x·dy_scale·x_scale over a full MR×NR tile and `quads` words of four tokens. x is
	// [quads][NR], dy [quads][width] with dy_sum of its rows.
	void (*tile)(int64_t quads, const uint32_t *dy, const int32_t *dy_sum, const float *dy_scale, const uint32_t *x,
		const float *x_scale, float *c, int64_t ldc, bool add);
};

// NULL where the CPU does not have them.
const struct ft_bytes *ft_bytes_avx512(void), *ft_bytes_avx2(void), *ft_bytes_neon(void);
// Those that go with ft_best_simd, or NULL.
const struct ft_bytes *ft_best_bytes(void);

// x [n_in, N] and dy [n_out, N] as a node of ft_quantize has them: panels of NR columns of x and strips of MR columns of dy,
// in words of four tokens, with a scale for each column and block of tokens.
struct ft_quantized {
	int64_t quads, blocks, panels, strips;
	uint32_t *x, *dy;          // [panels][quads][NR], [strips][quads][width]
	float *x_scale, *dy_scale; // [panels][blocks][NR], [strips][blocks][width]
	int32_t *dy_sum;           // [strips][blocks][width]
};

// The layout in memory at data, and the floats that it takes.
struct ft_quantized ft_quantized_at(void *data, int64_t n_in, int64_t n_out, int64_t tokens);
int64_t ft_quantized_floats(int64_t n_in, int64_t n_out, int64_t tokens);

// src: x, dy. dst [N, 2]: what the token's x is multiplied with, and its dy.
void ft_balance(tensor dst, int ith, int nth, void *userdata);
// src: x, dy, the node of ft_balance. dst: struct ft_quantized.
void ft_quantize(tensor dst, int ith, int nth, void *userdata);

// G of strips [first, end) of dy, MR rows of g each, and n columns of x from panel p0 on.
void ft_byte_strips(const struct ft_quantized *q, int64_t first, int64_t end, int64_t p0, int64_t n, float *g, int64_t stride);

#endif
