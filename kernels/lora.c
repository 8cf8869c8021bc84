#include "lora.h"
#include "batch.h"
#include "factor.h"
#include "weight.h"

#include <string.h>

// W with the product of the factors.
struct lora {
	struct ft_source source;
	struct ft_weight w;
	struct ft_factor left, right;
	float s;
};

// Adds the product of panels of two factors to `rows` steps of a packed panel of W.
static void add_tile(const struct ft_simd *v, int64_t r, const float *left, const float *right, float *out, int64_t rows) {
	if (rows == v->mr) {
		v->tile_steps(r, left, right, out, v->nr, true);
		return;
	}
	_Alignas(64) float t[FT_MR_MAX * FT_NR_MAX];
	v->tile_steps(r, left, right, t, v->nr, false);
	for (int64_t p = 0; p < rows * v->nr; p++) out[p] += t[p];
}

static void panels_with_delta(const struct ft_source *source, const struct ft_simd *v, int64_t k0, int64_t k1, int64_t j0, int64_t j1,
	float *out, float *work) {
	const struct lora *w = (const struct lora *)source;
	const int64_t r = w->left.r, k = k1 - k0;
	float *left = work + ft_up((int64_t)w->w.source.work, 16), *right = left + (k + v->mr - 1) / v->mr * r * FT_AK;
	w->w.source.panels(&w->w.source, v, k0, k1, j0, j1, out, work);
	ft_pack_factor(&w->left, k0, k1, w->s, v->mr, FT_AK, left);
	ft_pack_factor(&w->right, j0, j1, 1, v->nr, v->nr, right);
	for (int64_t j = j0; j < j1; j += v->nr, right += r * v->nr, out += k * v->nr)
		for (int64_t i = 0; i < k; i += v->mr) add_tile(v, r, left + i / v->mr * r * FT_AK, right, out + i * v->nr, ft_min(v->mr, k - i));
}

static struct lora adapted(const struct ggml_tensor *dst, bool transposed) {
	const struct ft_simd *v = ft_best_simd();
	const struct ft_weight w = transposed ? ft_weight_columns(dst->src[0]) : ft_weight_rows(dst->src[0]);
	const struct ft_factor a = ft_factor_a(dst->src[2]), b = ft_factor_b(dst->src[3]);
	const size_t panels = (size_t)((FT_KC / v->mr + 1) * FT_AK + FT_NC_MAX + v->nr) * (size_t)a.r;
	return (struct lora){
		.source = { .panels = panels_with_delta, .k_align = w.source.k_align, .work = (size_t)ft_up((int64_t)w.source.work, 16) + panels },
		.w = w, .left = transposed ? b : a, .right = transposed ? a : b, .s = ft_param(dst, 0),
	};
}

size_t ft_lora_mul_scratch(const struct ggml_tensor *dst, bool transposed) {
	const struct lora l = adapted(dst, transposed);
	return ft_gemm_scratch(ft_best_simd(), &l.source);
}

// src: w [n_in, n_out], x [n_in, N], a, b. dst: [n_out, N].
void ft_lora_mul(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct lora l = adapted(dst, false);
	ft_multiply(dst, &l.source, l.left.n, ith, nth);
}

// src: w [n_in, n_out], dy [n_out, N], a, b. dst: [n_in, N].
void ft_lora_mul_t(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct lora l = adapted(dst, true);
	ft_multiply(dst, &l.source, l.left.n, ith, nth);
}

// The gradients, with t = s·A·x and dt = s·Bᵀ·dy, both [r, N]:
//
//   dA[i, k] = Σ_t x[i, t]·dt[k, t]      dB[k, o] = Σ_t t[k, t]·dy[o, t]
//
// Two nodes read x and dy once each. The first has the threads share tokens: it makes t and dt, with the ranks padded to
// a multiple of four. The second has them share columns of x and dy: each strip is summed over all tokens in registers.
// Neither adds anything across threads, so the result does not depend on them.

enum { FACTOR_FLOATS = 8192 }; // of a factor, in the first-level cache while tokens pass by

// Elements [i0, i1) of f as rows [ranks][stride], each followed by zeros; rows after the last rank are 0.
static void copy_factor(const struct ft_factor *f, int64_t i0, int64_t i1, int64_t ranks, int64_t stride, float *out) {
	memset(out, 0, (size_t)(ranks * stride) * 4);
	if (f->line == 1) {
		for (int64_t q = 0; q < f->r; q++) memcpy(out + q * stride, f->data + q * f->rank + i0, (size_t)(i1 - i0) * 4);
		return;
	}
	for (int64_t i = i0; i < i1; i++)
		for (int64_t q = 0; q < f->r; q++) out[q * stride + i - i0] = f->data[i * f->line + q * f->rank];
}

static int64_t factor_width(int64_t ranks) { return ft_up(FACTOR_FLOATS / ranks + 1, 64); }

size_t ft_lora_inner_scratch(const struct ggml_tensor *dst) {
	return (size_t)(dst->ne[0] * (factor_width(dst->ne[0]) + FT_LANES_MAX));
}

// out [ranks, t1] = s·fᵀ·x for tokens [t0, t1).
static void project(const struct ggml_tensor *x, const struct ft_factor *f, float s, int64_t ranks, int64_t t0, int64_t t1, float *out) {
	const int64_t width = factor_width(ranks), stride = width + FT_LANES_MAX, ldx = (int64_t)(x->nb[1] / 4);
	float *copy = ft_scratch_take((size_t)(ranks * stride));
	for (int64_t i = 0; i < f->n; i += width) {
		const int64_t n = ft_min(width, f->n - i);
		copy_factor(f, i, i + n, ranks, stride, copy);
		ft_best_batch_simd()->dots(t1 - t0, n, (const float *)x->data + t0 * ldx + i, ldx, copy, stride, ranks, s, out + t0 * ranks, i > 0);
	}
	ft_scratch_give(copy);
}

// src: x [n_in, N], dy [n_out, N], a, b. dst: t, then dt, [ranks, N] each.
void ft_lora_inner(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_factor a = ft_factor_a(dst->src[2]), b = ft_factor_b(dst->src[3]);
	const int64_t ranks = dst->ne[0], tokens = dst->ne[1], together = ft_best_batch_simd()->together;
	const int64_t groups = (tokens + together - 1) / together; // a token is in the same group for any number of threads
	const int64_t t0 = groups * ith / nth * together, t1 = ft_min(tokens, groups * (ith + 1) / nth * together);
	if (t0 >= t1) return;
	project(dst->src[0], &a, ft_param(dst, 0), ranks, t0, t1, dst->data);
	project(dst->src[1], &b, ft_param(dst, 0), ranks, t0, t1, (float *)dst->data + ranks * tokens);
}

// The gradient of elements [i0, i0+wide) of a factor: Σ x·tᵀ over all tokens.
static void strip(const struct ggml_tensor *x, const float *t, int64_t ranks, const struct ft_factor *f, int64_t i0, float *grad, float *copy) {
	const struct ft_batch_simd *v = ft_best_batch_simd();
	const int64_t tokens = ft_rows(x), n = ft_min(v->wide, f->n - i0);
	int64_t ldx = (int64_t)(x->nb[1] / 4);
	const float *from = (const float *)x->data + i0;
	if (n < v->wide) {
		memset(copy, 0, (size_t)(tokens * v->wide) * 4);
		for (int64_t k = 0; k < tokens; k++) memcpy(copy + k * v->wide, from + k * ldx, (size_t)n * 4);
		from = copy, ldx = v->wide;
	}
	for (int64_t q = 0; q < f->r; q += 4) {
		_Alignas(64) float sums[4 * FT_WIDE_MAX];
		v->outer(tokens, from, ldx, t + q, ranks, sums);
		for (int64_t p = 0; p < ft_min(4, f->r - q); p++)
			for (int64_t i = 0; i < n; i++) grad[(i0 + i) * f->line + (q + p) * f->rank] = sums[p * v->wide + i];
	}
}

size_t ft_lora_outer_scratch(const struct ggml_tensor *dst) {
	return (size_t)(dst->src[0]->ne[1] * ft_best_batch_simd()->wide);
}

// src: the node of ft_lora_inner, x, dy, a, b. dst: [dA | dB].
void ft_lora_outer(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const tensor both = dst->src[0], x = dst->src[1], dy = dst->src[2];
	const struct ft_factor a = ft_factor_a(dst->src[3]), b = ft_factor_b(dst->src[4]);
	const int64_t ranks = both->ne[0], tokens = both->ne[1], wide = ft_best_batch_simd()->wide;
	const int64_t of_a = (a.n + wide - 1) / wide, all = of_a + (b.n + wide - 1) / wide;
	const float *t = both->data, *dt = t + ranks * tokens;
	float *da = dst->data, *db = da + a.r * a.n, *copy = ft_scratch_take(ft_lora_outer_scratch(dst));
	for (int64_t p = all * ith / nth; p < all * (ith + 1) / nth; p++) {
		if (p < of_a) strip(x, dt, ranks, &a, p * wide, da, copy);
		else strip(dy, t, ranks, &b, (p - of_a) * wide, db, copy);
	}
	ft_scratch_give(copy);
}
