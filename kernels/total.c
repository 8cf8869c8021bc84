#include "total.h"
#include "gemm.h"

// A thread owns columns of the total and goes through the rows in order, so the result does not depend on how many there
// are, and no two write to one number.

// src: dst, dy [n, N], ids I32 [N]. dst: [n, rows], row ids[i] of which receives row i of dy.
void ft_add_rows(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ggml_tensor *dy = dst->src[1];
	const int32_t *ids = dst->src[2]->data;
	const int64_t from = dst->ne[0] * ith / nth, to = dst->ne[0] * (ith + 1) / nth, rows = ft_rows(dy);
	for (int64_t r = 0; r < rows; r++) {
		const float *in = (const float *)((const char *)dy->data + (size_t)r * dy->nb[1]);
		float *restrict out = (float *)((char *)dst->data + (size_t)ids[r] * dst->nb[1]);
		for (int64_t i = from; i < to; i++) out[i] += in[i];
	}
}

enum {
	BLOCK = 64,  // columns that are summed at once
	ROWS = 128,  // rows whose sum is formed in F32
};

// sums[i] = Σ_r a[r·n + i]·b[r·n + i], or of a alone, for `count` columns; a constant count is what the compiler unrolls.
#define SUM_ROWS(count) \
	for (int64_t r = 0; r < rows; r++) { \
		const float *x = a + r * n; \
		if (b) for (int64_t i = 0; i < (count); i++) sums[i] += x[i] * b[r * n + i]; \
		else for (int64_t i = 0; i < (count); i++) sums[i] += x[i]; \
	}

static void sum_rows(int64_t rows, int64_t count, int64_t n, const float *restrict a, const float *restrict b, float *restrict sums) {
	for (int64_t i = 0; i < BLOCK; i++) sums[i] = 0;
	if (count == BLOCK) { SUM_ROWS(BLOCK) } else { SUM_ROWS(count) }
}

// src: dst, a [N rows of n], perhaps b likewise, all contiguous. dst: n numbers, to which Σ_rows a ⊙ b is added.
void ft_add_sums(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ggml_tensor *a = dst->src[1], *b = dst->src[2];
	const int64_t n = dst->ne[0] * ft_rows(dst), rows = a->ne[0] * ft_rows(a) / n;
	const int64_t blocks = (n + BLOCK - 1) / BLOCK;
	for (int64_t from = blocks * ith / nth * BLOCK; from < ft_min(n, blocks * (ith + 1) / nth * BLOCK); from += BLOCK) {
		const int64_t count = ft_min(BLOCK, n - from);
		double whole[BLOCK] = { 0 };
		for (int64_t r = 0; r < rows; r += ROWS) {
			float sums[BLOCK];
			const float *y = b ? (const float *)b->data + r * n + from : NULL;
			sum_rows(ft_min(ROWS, rows - r), count, n, (const float *)a->data + r * n + from, y, sums);
			for (int64_t i = 0; i < count; i++) whole[i] += (double)sums[i];
		}
		float *out = (float *)dst->data + from;
		for (int64_t i = 0; i < count; i++) out[i] = (float)((double)out[i] + whole[i]);
	}
}

enum { WIDE = 512 }; // columns whose squares are summed at once: as much of a row as is worth asking memory for

// src: dst, x [n, N] contiguous, weights F32 [N]. dst: n numbers, to which Σ_rows weight·x² is added. Rows of weight 0 are
// not read.
void ft_add_squares(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ggml_tensor *x = dst->src[1];
	const float *weights = dst->src[2]->data;
	const int64_t n = dst->ne[0], rows = ft_rows(x), lines = (n + 15) / 16;
	const int64_t begin = lines * ith / nth * 16, end = ft_min(n, lines * (ith + 1) / nth * 16);
	for (int64_t from = begin; from < end; from += WIDE) {
		const int64_t count = ft_min(WIDE, end - from);
		double whole[WIDE] = { 0 };
		for (int64_t r = 0; r < rows; r += ROWS) {
			float sums[WIDE] = { 0 };
			for (int64_t q = r; q < ft_min(rows, r + ROWS); q++) {
				const float weight = weights[q], *restrict in = (const float *)x->data + q * n + from;
				if (weight == 0) continue;
				for (int64_t i = 0; i < count; i++) sums[i] += weight * in[i] * in[i];
			}
			for (int64_t i = 0; i < count; i++) whole[i] += (double)sums[i];
		}
		float *out = (float *)dst->data + from;
		for (int64_t i = 0; i < count; i++) out[i] = (float)((double)out[i] + whole[i]);
	}
}
