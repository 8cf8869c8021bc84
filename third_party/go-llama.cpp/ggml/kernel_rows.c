#include "gemm.h"

// Operations on rows; the rows are dealt out to the threads, so the result does not depend on how many there are. None
// of them is ever computed in place: ggml's allocator does not reuse the operands of a custom operation.

static int64_t rows_of(const struct ggml_tensor *t) { return t->ne[1] * t->ne[2] * t->ne[3]; }
static float *row_of(const struct ggml_tensor *t, int64_t i) { return (float *)((char *)t->data + (size_t)i * t->nb[1]); }

// src: x [n, rows], dy [n, rows]. dst: dx.
void ft_rms_norm_back(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_simd *v = ft_best_simd();
	for (int64_t i = ith; i < rows_of(dst); i += nth)
		v->rms_norm_back(row_of(dst->src[0], i), row_of(dst->src[1], i), row_of(dst, i), dst->ne[0], ft_param(dst, 0));
}

// src: y [n, rows], dy [n, rows]. dst: dx.
void ft_soft_max_back(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_simd *v = ft_best_simd();
	for (int64_t i = ith; i < rows_of(dst); i += nth)
		v->soft_max_back(row_of(dst->src[0], i), row_of(dst->src[1], i), row_of(dst, i), dst->ne[0], ft_param(dst, 0));
}

// src: g [n, rows], u [n, rows], dy [n, rows]. dst: [n, rows, 2], dg then du.
void ft_swiglu_back(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_simd *v = ft_best_simd();
	const int64_t n = dst->ne[0], rows = rows_of(dst->src[0]);
	for (int64_t i = ith; i < rows; i += nth)
		v->swiglu_back(row_of(dst->src[0], i), row_of(dst->src[1], i), row_of(dst->src[2], i), row_of(dst, i), row_of(dst, rows + i), n);
}

// src: x [2n, rows], whose halves are g and u (u first where parameter 0 is set), dy [n, rows]. dst: dx [2n, rows].
void ft_swiglu_back_fused(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_simd *v = ft_best_simd();
	const int64_t n = dst->ne[0] / 2, g = ft_param(dst, 0) != 0 ? n : 0, u = n - g;
	for (int64_t i = ith; i < rows_of(dst); i += nth) {
		const float *x = row_of(dst->src[0], i);
		float *dx = row_of(dst, i);
		v->swiglu_back(x + g, x + u, row_of(dst->src[1], i), dx + g, dx + u, n);
	}
}
