#include "dual.h"
#include "factor.h"
#include "weight.h"

// W with the change: M = B·A and N = D·C of a few steps and a panel of columns exist in registers only.
struct dual {
	struct ft_source source;
	struct ft_weight w;
	struct ft_factor left[2], right[2]; // of M and of N
	float s;
};

// Floats of a left factor for k steps, packed FT_AK at a time.
static int64_t left_floats(int64_t k, int64_t r) { return ft_up(k, FT_AK) * r; }

static void panels_with_delta(const struct ft_source *source, const struct ft_simd *v, int64_t k0, int64_t k1, int64_t j0, int64_t j1,
	float *out, float *work) {
	const struct dual *d = (const struct dual *)source;
	const int64_t k = k1 - k0, r1 = d->left[0].r, r2 = d->left[1].r;
	float *m_left = work + ft_up((int64_t)d->w.source.work, 16), *n_left = m_left + left_floats(k, r1);
	float *m_right = n_left + left_floats(k, r2), *n_right = m_right + ft_up(j1 - j0, v->nr) * r1;
	d->w.source.panels(&d->w.source, v, k0, k1, j0, j1, out, work);
	ft_pack_factor(&d->left[0], k0, k1, 1, FT_AK, FT_AK, m_left);
	ft_pack_factor(&d->left[1], k0, k1, 1, FT_AK, FT_AK, n_left);
	ft_pack_factor(&d->right[0], j0, j1, 1, v->nr, v->nr, m_right);
	ft_pack_factor(&d->right[1], j0, j1, 1, v->nr, v->nr, n_right);
	for (int64_t j = j0; j < j1; j += v->nr, m_right += v->nr * r1, n_right += v->nr * r2, out += v->nr * k)
		for (int64_t i = 0; i < k; i += FT_AK)
			v->add_delta(ft_min(FT_AK, k - i), m_left + i * r1, m_right, r1, n_left + i * r2, n_right, r2, d->s, out + i * v->nr);
}

static struct dual adapted(const struct ggml_tensor *dst, bool transposed) {
	const struct ft_simd *v = ft_best_simd();
	const struct ft_weight w = transposed ? ft_weight_columns(dst->src[0]) : ft_weight_rows(dst->src[0]);
	const struct ft_factor a[2] = { ft_factor_a(dst->src[2]), ft_factor_a(dst->src[4]) };
	const struct ft_factor b[2] = { ft_factor_b(dst->src[3]), ft_factor_b(dst->src[5]) };
	const struct ft_factor *left = transposed ? b : a, *right = transposed ? a : b;
	const int64_t panels = (ft_up(FT_KC, FT_AK) + FT_NC_MAX + v->nr) * (a[0].r + a[1].r);
	return (struct dual){
		.source = { .panels = panels_with_delta, .k_align = w.source.k_align, .work = (size_t)(ft_up((int64_t)w.source.work, 16) + panels) },
		.w = w, .left = { left[0], left[1] }, .right = { right[0], right[1] }, .s = ft_param(dst, 0),
	};
}

size_t ft_dual_mul_scratch(const struct ggml_tensor *dst, bool transposed) {
	const struct dual d = adapted(dst, transposed);
	return ft_gemm_scratch(ft_best_simd(), &d.source);
}

// src: w [n_in, n_out], x [n_in, N], a, b, c, d. dst: [n_out, N].
void ft_dual_mul(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct dual d = adapted(dst, false);
	ft_multiply(dst, &d.source, d.w.n_in, ith, nth);
}

// src: w [n_in, n_out], dy [n_out, N], a, b, c, d. dst: [n_in, N].
void ft_dual_mul_t(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct dual d = adapted(dst, true);
	ft_multiply(dst, &d.source, d.w.n_out, ith, nth);
}
