#include "gemm.h"

#include <string.h>

// Operations on rows; the rows are dealt out to the threads, so the result does not depend on how many there are. None
// of them is ever computed in place: ggml's allocator does not reuse the operands of a custom operation.

// src: x [n, rows], w [n]. dst: y.
static void norm_mul(tensor dst, int ith, int nth, void (*row)(const float *x, const float *w, float *y, int64_t n, float eps)) {
	const int64_t rows = ft_rows(dst);
	for (int64_t i = rows * ith / nth; i < rows * (ith + 1) / nth; i++)
		row(ft_row(dst->src[0], i), dst->src[1]->data, ft_row(dst, i), dst->ne[0], ft_param(dst, 0));
}

void ft_rms_norm_mul(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	norm_mul(dst, ith, nth, ft_best_simd()->rms_norm_mul);
}

void ft_layer_norm_mul(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	norm_mul(dst, ith, nth, ft_best_simd()->layer_norm_mul);
}

// src: x [n, rows], dy [n, rows] and, for the norm with a weight, w [n]. dst: dx.
static void norm_back(tensor dst, int ith, int nth, void (*row)(const float *x, const float *w, const float *dy, float *dx, int64_t n, float eps)) {
	const int64_t rows = ft_rows(dst);
	const float *w = dst->src[2] ? dst->src[2]->data : NULL;
	for (int64_t i = rows * ith / nth; i < rows * (ith + 1) / nth; i++)
		row(ft_row(dst->src[0], i), w, ft_row(dst->src[1], i), ft_row(dst, i), dst->ne[0], ft_param(dst, 0));
}

void ft_rms_norm_back(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	norm_back(dst, ith, nth, ft_best_simd()->rms_norm_back);
}

void ft_layer_norm_back(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	norm_back(dst, ith, nth, ft_best_simd()->layer_norm_back);
}

// src: x [n, rows]. Parameter: 1 rounds as ggml's table does and not 0. dst: y.
void ft_gelu(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_simd *v = ft_best_simd();
	const int64_t rows = ft_rows(dst);
	for (int64_t i = rows * ith / nth; i < rows * (ith + 1) / nth; i++)
		v->gelu(ft_row(dst->src[0], i), ft_row(dst, i), dst->ne[0], ft_param(dst, 0) != 0);
}

// src: x [n, rows], dy [n, rows]. dst: dx.
void ft_gelu_back(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_simd *v = ft_best_simd();
	const int64_t rows = ft_rows(dst);
	for (int64_t i = rows * ith / nth; i < rows * (ith + 1) / nth; i++)
		v->gelu_back(ft_row(dst->src[0], i), ft_row(dst->src[1], i), ft_row(dst, i), dst->ne[0]);
}

// src: x [n, heads, N], what ggml's rotation made of ones [d, 1, N]. Parameters: 1 turns back and not 0; 1 pairs halves and
// not neighbours. A pair of ones became (cos − sin, cos + sin), times YaRN's magnitude. dst: [n, heads, N].
void ft_rotate(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_simd *v = ft_best_simd();
	const struct ggml_tensor *x = dst->src[0], *table = dst->src[1];
	const int64_t n = dst->ne[0], d = table->ne[0], heads = dst->ne[1], tokens = dst->ne[2];
	const bool halves = ft_param(dst, 1) != 0;
	const int64_t step = halves ? d / 2 : 1, next = halves ? 1 : 2;
	const float half = ft_param(dst, 0) != 0 ? -0.5f : 0.5f;
	float *c = ft_scratch_take((size_t)(2 * d)), *s = c + d;
	for (int64_t t = tokens * ith / nth; t < tokens * (ith + 1) / nth; t++) {
		const float *ones = (const float *)((const char *)table->data + (size_t)t * table->nb[2]);
		for (int64_t i = 0, at = 0; i < d / 2; i++, at += next) {
			c[at] = c[at + step] = (ones[at] + ones[at + step]) * 0.5f;
			s[at + step] = (ones[at + step] - ones[at]) * half;
			s[at] = -s[at + step];
		}
		for (int64_t h = 0; h < heads; h++) {
			const float *from = (const float *)((const char *)x->data + (size_t)h * x->nb[1] + (size_t)t * x->nb[2]);
			float *to = (float *)dst->data + (t * heads + h) * n;
			(halves ? v->rotate_halves : v->rotate_pairs)(from, c, s, to, d);
			memcpy(to + d, from + d, (size_t)(n - d) * 4);
		}
	}
	ft_scratch_give(c);
}

// src: y [n, rows], dy [n, rows]. dst: dx.
void ft_soft_max_back(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_simd *v = ft_best_simd();
	const int64_t rows = ft_rows(dst);
	for (int64_t i = rows * ith / nth; i < rows * (ith + 1) / nth; i++)
		v->soft_max_back(ft_row(dst->src[0], i), ft_row(dst->src[1], i), ft_row(dst, i), dst->ne[0], ft_param(dst, 0));
}

// src: g [n, rows], u [n, rows], dy [n, rows]. dst: [n, rows, 2], dg then du.
void ft_swiglu_back(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_simd *v = ft_best_simd();
	const int64_t n = dst->ne[0], rows = ft_rows(dst->src[0]);
	for (int64_t i = rows * ith / nth; i < rows * (ith + 1) / nth; i++)
		v->swiglu_back(ft_row(dst->src[0], i), ft_row(dst->src[1], i), ft_row(dst->src[2], i), ft_row(dst, i), ft_row(dst, rows + i), n);
}

// src: x [2n, rows], whose halves are g and u (u first where parameter 0 is set), dy [n, rows]. dst: dx [2n, rows].
void ft_swiglu_back_fused(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_simd *v = ft_best_simd();
	const int64_t n = dst->ne[0] / 2, g = ft_param(dst, 0) != 0 ? n : 0, u = n - g, rows = ft_rows(dst);
	for (int64_t i = rows * ith / nth; i < rows * (ith + 1) / nth; i++) {
		const float *x = ft_row(dst->src[0], i);
		float *dx = ft_row(dst, i);
		v->swiglu_back(x + g, x + u, ft_row(dst->src[1], i), dx + g, dx + u, n);
	}
}
