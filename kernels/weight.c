#include "weight.h"

#include <string.h>

enum {
	SLACK = 512,          // whole blocks on both sides of a range of columns, and whole panels
	WIDE = FT_NC_MAX + SLACK, // floats in a buffered row of a range of columns
	GROUP = 4,            // such rows at a time
	BUFFER = FT_LANES_MAX * FT_KS > GROUP * WIDE ? FT_LANES_MAX * FT_KS : GROUP * WIDE,
};

static struct ft_weight weight(tensor w) {
	const struct ggml_type_traits *traits = ggml_get_type_traits(w->type);
	return (struct ft_weight){
		.source = { .work = BUFFER, .k_align = 1 },
		.data = w->data, .n_in = w->ne[0], .n_out = w->ne[1], .row_bytes = w->nb[1],
		.block = traits->blck_size, .block_bytes = traits->type_size, .type = w->type, .to_float = traits->to_float,
	};
}

// Elements [i0, i1) of a row, whole blocks, to F32.
static void dequantize(const struct ft_weight *w, const struct ft_simd *v, int64_t row, int64_t i0, int64_t i1, float *out) {
	const char *src = w->data + (size_t)row * w->row_bytes + (size_t)(i0 / w->block) * w->block_bytes;
	if (w->type == GGML_TYPE_F32) memcpy(out, src, (size_t)(i1 - i0) * 4);
	else if (w->type == GGML_TYPE_F16 && v->from_f16) v->from_f16(src, out, i1 - i0);
	else w->to_float(src, out, i1 - i0);
}

// Asks for the bytes of elements [i0, i1) of a row ahead of their use.
static void prefetch(const struct ft_weight *w, int64_t row, int64_t i0, int64_t i1) {
	const char *p = w->data + (size_t)row * w->row_bytes;
	const char *end = p + (size_t)(i1 / w->block) * w->block_bytes;
	for (p += (size_t)(i0 / w->block) * w->block_bytes; p < end; p += 64) __builtin_prefetch(p);
}

static void rows_as_panels(const struct ft_source *s, const struct ft_simd *v, int64_t k0, int64_t k1, int64_t j0, int64_t j1,
	float *out, float *work) {
	const struct ft_weight *w = (const struct ft_weight *)s;
	const int64_t k = k1 - k0;
	for (int64_t j = j0; j < ft_up(j1 - j0, v->nr) + j0; j += v->lanes) {
		const int64_t count = j < j1 ? ft_min(v->lanes, j1 - j) : 0;
		for (int64_t q = 0; q < v->lanes; q++) {
			if (j + q + v->lanes < j1) prefetch(w, j + q + v->lanes, k0, k1);
			if (q < count) dequantize(w, v, j + q, k0, k1, work + q * FT_KS);
			else memset(work + q * FT_KS, 0, (size_t)k * 4);
		}
		v->columns(k, work, FT_KS, out + (j - j0) / v->nr * v->nr * k + (j - j0) % v->nr);
	}
}

static void columns_as_panels(const struct ft_source *s, const struct ft_simd *v, int64_t k0, int64_t k1, int64_t j0, int64_t j1,
	float *out, float *work) {
	const struct ft_weight *w = (const struct ft_weight *)s;
	const int64_t i0 = j0 / w->block * w->block, i1 = ft_min(w->n_in, ft_up(j1, w->block)); // whole blocks around the range
	const int64_t n = j1 - j0, padding = ft_up(n, v->nr) - n;
	for (int64_t k = k0; k < k1; k += GROUP) {
		const int64_t count = ft_min(GROUP, k1 - k);
		for (int64_t q = 0; q < count; q++) {
			if (k + q + GROUP < k1) prefetch(w, k + q + GROUP, i0, i1);
			dequantize(w, v, k + q, i0, i1, work + q * WIDE);
		}
		float *from = work + (j0 - i0);
		for (int64_t q = 0; q < count; q++, from += WIDE) {
			memset(from + n, 0, (size_t)padding * 4);
			v->spread(from, n, (k1 - k0) * v->nr, out + (k + q - k0) * v->nr);
		}
	}
}

struct ft_weight ft_weight_rows(tensor w) {
	struct ft_weight s = weight(w);
	s.source.panels = rows_as_panels;
	s.source.k_align = s.block;
	return s;
}

struct ft_weight ft_weight_columns(tensor w) {
	struct ft_weight s = weight(w);
	s.source.panels = columns_as_panels;
	return s;
}

void ft_multiply(tensor dst, const struct ft_source *s, int64_t steps, int ith, int nth) {
	const struct ggml_tensor *x = dst->src[1];
	ft_gemm(x->ne[1] * x->ne[2] * x->ne[3], dst->ne[0], steps, x->data, (int64_t)(x->nb[1] / 4), s, dst->data,
		(int64_t)(dst->nb[1] / 4), ith, nth);
}

size_t ft_weight_scratch(const struct ggml_tensor *dst) {
	const struct ft_weight w = ft_weight_rows(dst->src[0]);
	return ft_gemm_scratch(ft_best_simd(), &w.source);
}

// src: w [n_in, n_out], x [n_in, N]. dst: [n_out, N].
void ft_weight_mul(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_weight w = ft_weight_rows(dst->src[0]);
	ft_multiply(dst, &w.source, w.n_in, ith, nth);
}

// src: w [n_in, n_out], dy [n_out, N]. dst: [n_in, N].
void ft_weight_mul_t(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_weight w = ft_weight_columns(dst->src[0]);
	ft_multiply(dst, &w.source, w.n_out, ith, nth);
}
