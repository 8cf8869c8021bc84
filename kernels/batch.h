// Products of F32 matrices head by head, as in attention, over any layout in which one of the first two dimensions is
// contiguous; batch.c.
#ifndef FINETUNE_KERNELS_BATCH_H
#define FINETUNE_KERNELS_BATCH_H

#include "gemm.h"

void ft_batch_mul(tensor dst, int ith, int nth, void *userdata);
void ft_batch_mul_t(tensor dst, int ith, int nth, void *userdata);
void ft_batch_outer(tensor dst, int ith, int nth, void *userdata);
void ft_add_outer(tensor dst, int ith, int nth, void *userdata);

// A token as the gated delta rule sees it: n numbers each, padded with 0 to whole vectors; scale is of q. Without decay every
// column fades alike.
struct ft_delta_token {
	const float *q, *k, *decay;
	float fade, beta, scale;
};

// What goes with the struct ft_simd of the same name: batch_simd.h, lora_simd.h and delta_simd.h.
struct ft_batch_simd {
	const char *name;
	// The tile of struct ft_simd over an A that is read where it lies: element (m, k) is a[m·lda + k] or a[m + k·lda].
	void (*tile_rows)(int64_t k, const float *a, int64_t lda, const float *b, float *c, int64_t ldc, bool add);
	void (*tile_columns)(int64_t k, const float *a, int64_t lda, const float *b, float *c, int64_t ldc, bool add);

	int together; // tokens that dots takes at a time
	int wide;     // columns of a strip of outer, at most FT_WIDE_MAX
	// out[t·ranks + q] = (add ? out : 0) + s·Σ_i x[t·ldx + i]·f[q·fs + i] over n columns. ranks is a multiple of 4, and the
	// rows of f are followed by zeros up to a whole vector.
	void (*dots)(int64_t tokens, int64_t n, const float *x, int64_t ldx, const float *f, int64_t fs, int64_t ranks, float s,
		float *out, bool add);
	// out[q·wide + i] = Σ_t t[t·ldt + q]·x[t·ldx + i] for four ranks and `wide` columns.
	void (*outer)(int64_t tokens, const float *x, int64_t ldx, const float *t, int64_t ldt, float *out);

	// The gated delta rule, one token forwards and backwards for some rows (a multiple of four) of a head's state.
	void (*delta_step)(int64_t n, int64_t rows, const struct ft_delta_token *t, const float *v, const float *prev, float *next,
		float *u, float *y);
	float (*delta_step_back)(int64_t n, int64_t rows, const struct ft_delta_token *t, const float *prev, const float *u,
		const float *dy, float *a, float *dv, float *dq, float *dk, float *ddecay);
};

enum { FT_WIDE_MAX = 6 * FT_LANES_MAX };

extern const struct ft_batch_simd ft_batch_portable;
#if defined(__x86_64__)
extern const struct ft_batch_simd ft_batch_avx2, ft_batch_avx512;
#elif defined(__aarch64__)
extern const struct ft_batch_simd ft_batch_neon;
#endif

const struct ft_batch_simd *ft_best_batch_simd(void);

// The scratch memory that a thread takes for any of the products, in floats.
size_t ft_batch_scratch(void);

#endif
