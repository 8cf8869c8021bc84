#include "weight.h"

// The factors of a term from operands first..first+3 of a node: a, b, c, d. The scale is the node's parameter 0.
static struct ft_factors factors(const struct ggml_tensor *t, int first) {
	const tensor a = t->src[first], b = t->src[first + 1], c = t->src[first + 2], d = t->src[first + 3];
	return (struct ft_factors){ a->data, b->data, c->data, d->data, a->ne[0], a->ne[1], c->ne[1], ft_param(t, 0) };
}

static int64_t rows_of(const struct ggml_tensor *t) { return t->ne[1] * t->ne[2] * t->ne[3]; }

size_t ft_mul_scratch(const struct ggml_tensor *dst, bool adapted) {
	const struct ft_weight w = ft_weight_rows(dst->src[0], adapted ? factors(dst, 2) : (struct ft_factors){ 0 });
	return ft_gemm_scratch(ft_best_simd(), &w.source);
}

static void multiply(tensor dst, const struct ft_weight *w, int64_t steps, int ith, int nth) {
	const struct ggml_tensor *x = dst->src[1];
	ft_gemm(rows_of(x), dst->ne[0], steps, x->data, (int64_t)(x->nb[1] / 4), &w->source, dst->data,
		(int64_t)(dst->nb[1] / 4), ith, nth);
}

// src: w [n_in, n_out], x [n_in, N]. dst: [n_out, N].
void ft_weight_mul(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_weight w = ft_weight_rows(dst->src[0], (struct ft_factors){ 0 });
	multiply(dst, &w, w.n_in, ith, nth);
}

// src: w [n_in, n_out], dy [n_out, N]. dst: [n_in, N].
void ft_weight_mul_t(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_weight w = ft_weight_columns(dst->src[0], (struct ft_factors){ 0 });
	multiply(dst, &w, w.n_out, ith, nth);
}

// src: as ft_weight_mul, then a, b, c, d.
void ft_dual_mul(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_weight w = ft_weight_rows(dst->src[0], factors(dst, 2));
	multiply(dst, &w, w.n_in, ith, nth);
}

// src: as ft_weight_mul_t, then a, b, c, d.
void ft_dual_mul_t(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_weight w = ft_weight_columns(dst->src[0], factors(dst, 2));
	multiply(dst, &w, w.n_out, ith, nth);
}
