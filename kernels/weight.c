#include "weight.h"

#include <string.h>

enum {
	TYPE_F32 = 0,
	TYPE_F16 = 1,
	SLACK = 512,          // whole blocks on both sides of a range of columns, and whole panels
	WIDE = FT_NC_MAX + SLACK, // floats in a buffered row of a range of columns
	GROUP = 4,            // such rows at a time
	FACTOR = WIDE > FT_KS ? WIDE : FT_KS, // from one copied row of a factor to the next
	BUFFER = FT_LANES_MAX * FT_KS > GROUP * WIDE ? FT_LANES_MAX * FT_KS : GROUP * WIDE,
};

static struct ft_weight weight(tensor w, struct ft_factors term) {
	const struct ggml_type_traits *traits = ggml_get_type_traits(w->type);
	return (struct ft_weight){
		.source = { .work = (size_t)(BUFFER + (term.r1 + term.r2) * FACTOR), .k_align = 1 },
		.data = w->data, .n_in = w->ne[0], .n_out = w->ne[1], .row_bytes = w->nb[1],
		.block = traits->blck_size, .block_bytes = traits->type_size, .type = w->type, .to_float = traits->to_float,
		.term = term,
	};
}

// Elements [i0, i1) of a row, whole blocks, to F32.
static void dequantize(const struct ft_weight *w, const struct ft_simd *v, int64_t row, int64_t i0, int64_t i1, float *out) {
	const char *src = w->data + (size_t)row * w->row_bytes + (size_t)(i0 / w->block) * w->block_bytes;
	if (w->type == TYPE_F32) memcpy(out, src, (size_t)(i1 - i0) * 4);
	else if (w->type == TYPE_F16 && v->from_f16) v->from_f16(src, out, i1 - i0);
	else w->to_float(src, out, i1 - i0);
}

void ft_copy_factor(const float *f, int64_t n_in, int64_t r, int64_t i0, int64_t i1, float *out, int64_t stride, int64_t pad) {
	for (int64_t q = 0; q < r; q++) {
		memcpy(out + q * stride, f + q * n_in + i0, (size_t)(i1 - i0) * 4);
		memset(out + q * stride + (i1 - i0), 0, (size_t)pad * 4);
	}
}

// Adds the term's columns, copied to a and c, to rows [row, row+count) of W, which lie in buf.
static void add_term(const struct ft_weight *w, const struct ft_simd *v, int64_t row, int64_t count, int64_t n, float *buf,
	int64_t stride, const float *a, const float *c) {
	const struct ft_factors *t = &w->term;
	v->add_delta(count, n, buf, stride, a, c, FACTOR, t->b + row * t->r1, t->r1, t->d + row * t->r2, t->r2, t->s);
}

static void copy_factors(const struct ft_weight *w, int64_t i0, int64_t i1, float *a, float *c) {
	ft_copy_factor(w->term.a, w->n_in, w->term.r1, i0, i1, a, FACTOR, FT_LANES_MAX);
	ft_copy_factor(w->term.c, w->n_in, w->term.r2, i0, i1, c, FACTOR, FT_LANES_MAX);
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
	float *buf = work, *a = buf + BUFFER, *c = a + w->term.r1 * FACTOR;
	const int64_t k = k1 - k0;
	if (w->term.r1) copy_factors(w, k0, k1, a, c);
	for (int64_t j = j0; j < ft_up(j1 - j0, v->nr) + j0; j += v->lanes) {
		const int64_t count = j < j1 ? ft_min(v->lanes, j1 - j) : 0;
		for (int64_t q = 0; q < v->lanes; q++) {
			if (j + q + v->lanes < j1) prefetch(w, j + q + v->lanes, k0, k1);
			if (q < count) dequantize(w, v, j + q, k0, k1, buf + q * FT_KS);
			else memset(buf + q * FT_KS, 0, (size_t)k * 4);
		}
		if (w->term.r1) add_term(w, v, j, count, k, buf, FT_KS, a, c);
		v->columns(k, buf, FT_KS, out + (j - j0) / v->nr * v->nr * k + (j - j0) % v->nr);
	}
}

static void columns_as_panels(const struct ft_source *s, const struct ft_simd *v, int64_t k0, int64_t k1, int64_t j0, int64_t j1,
	float *out, float *work) {
	const struct ft_weight *w = (const struct ft_weight *)s;
	float *buf = work, *a = buf + BUFFER, *c = a + w->term.r1 * FACTOR;
	const int64_t i0 = j0 / w->block * w->block, i1 = ft_min(w->n_in, ft_up(j1, w->block)); // whole blocks around the range
	const int64_t n = j1 - j0, padding = ft_up(n, v->nr) - n;
	if (w->term.r1) copy_factors(w, j0, j1, a, c);
	for (int64_t k = k0; k < k1; k += GROUP) {
		const int64_t count = ft_min(GROUP, k1 - k);
		for (int64_t q = 0; q < count; q++) {
			if (k + q + GROUP < k1) prefetch(w, k + q + GROUP, i0, i1);
			dequantize(w, v, k + q, i0, i1, buf + q * WIDE);
		}
		float *from = buf + (j0 - i0);
		if (w->term.r1) add_term(w, v, k, count, n, from, WIDE, a, c);
		for (int64_t q = 0; q < count; q++, from += WIDE) {
			memset(from + n, 0, (size_t)padding * 4);
			v->spread(from, n, (k1 - k0) * v->nr, out + (k + q - k0) * v->nr);
		}
	}
}

struct ft_weight ft_weight_rows(tensor w, struct ft_factors term) {
	struct ft_weight s = weight(w, term);
	s.source.panels = rows_as_panels;
	s.source.k_align = s.block;
	return s;
}

struct ft_weight ft_weight_columns(tensor w, struct ft_factors term) {
	struct ft_weight s = weight(w, term);
	s.source.panels = columns_as_panels;
	return s;
}
