#include "bytes.h"

#include <math.h>
#include <string.h>

// G[o][i] = Σ_t x[t,i]·dy[t,o] says in which direction A and B go. For it x and dy are rounded to 8 bits, to 127 steps up to
// the largest value of a column over a block of tokens: an error of at most half a step, which prefers no direction.
//
// Tokens differ. The first of a text has a hundred times the activations of others, one beside a trained token a hundred times
// the derivatives. What a token has more of the one than of the other is shared by both, x_t·g_t and dy_t/g_t with
// g_t² = |dy_t|/|x_t|, so that the largest values of a column are those of the tokens that G owes most to.

const struct ft_bytes *ft_best_bytes(void) {
	const struct ft_simd *v = ft_best_simd();
	(void)v;
#if defined(__x86_64__)
	if (v == &ft_avx512) return ft_bytes_avx512();
	if (v == &ft_avx2) return ft_bytes_avx2();
#elif defined(__aarch64__)
	if (v == &ft_neon) return ft_bytes_neon();
#endif
	return NULL;
}

// ---- the layout

// Whole cache lines.
static int64_t lines(int64_t words) { return ft_up(words, 16); }

struct ft_quantized ft_quantized_at(void *data, int64_t n_in, int64_t n_out, int64_t tokens) {
	const struct ft_simd *v = ft_best_simd();
	const int64_t width = ft_best_bytes()->width;
	struct ft_quantized q = { .quads = (tokens + 3) / 4, .blocks = (tokens + FT_BYTE_BLOCK - 1) / FT_BYTE_BLOCK,
		.panels = (n_in + v->nr - 1) / v->nr, .strips = (n_out + v->mr - 1) / v->mr };
	q.x = data;
	q.dy = q.x + lines(q.panels * q.quads * v->nr);
	q.x_scale = (float *)(q.dy + lines(q.strips * q.quads * width));
	q.dy_scale = q.x_scale + lines(q.panels * q.blocks * v->nr);
	q.dy_sum = (int32_t *)(q.dy_scale + lines(q.strips * q.blocks * width));
	return q;
}

int64_t ft_quantized_floats(int64_t n_in, int64_t n_out, int64_t tokens) {
	const struct ft_quantized q = ft_quantized_at(NULL, n_in, n_out, tokens);
	return (int64_t)((uintptr_t)q.dy_sum / 4) + lines(q.strips * q.blocks * ft_best_bytes()->width);
}

// ---- the nodes

// src: x, dy. A token without activations or derivatives adds nothing to G and must not make the others' steps coarser. What is
// no number stays none: it is in the factors, and so in all of G.
void ft_balance(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_bytes *b = ft_best_bytes();
	const tensor x = dst->src[0], dy = dst->src[1];
	const int64_t n = ft_rows(x);
	float *by = dst->data;
	for (int64_t t = n * ith / nth; t < n * (ith + 1) / nth; t++) {
		const float xx = b->squares(ft_row(x, t), x->ne[0]), yy = b->squares(ft_row(dy, t), dy->ne[0]);
		const float g = sqrtf(sqrtf(yy / (float)dy->ne[0]) / sqrtf(xx / (float)x->ne[0]));
		const bool nothing = xx == 0 || yy == 0;
		by[t] = nothing ? 0 : g, by[n + t] = nothing ? 0 : 1 / g;
	}
}

// Columns [from, from + width) of t, to words of a panel and `width` scales a block.
struct side {
	const struct ft_bytes *b;
	const struct ggml_tensor *t;
	const float *by;
	bool x;
	int64_t tokens, width, lanes;
};

static void quantize_columns(const struct side *s, int64_t from, uint32_t *words, float *scales, int32_t *sums) {
	float rest[FT_BYTE_BLOCK * FT_LANES_MAX];
	for (int64_t t = 0; t < s->tokens; t += FT_BYTE_BLOCK, words += FT_BYTE_BLOCK / 4 * s->width, scales += s->width) {
		const int64_t n = ft_min(FT_BYTE_BLOCK, s->tokens - t);
		for (int64_t l = 0; l < s->width; l += s->lanes) {
			const float *rows = ft_row(s->t, t) + from + l;
			int64_t stride = (int64_t)(s->t->nb[1] / 4);
			const int64_t there = s->t->ne[0] - from - l;
			if (there < s->lanes) {
				memset(rest, 0, sizeof rest);
				for (int64_t k = 0; there > 0 && k < n; k++) memcpy(rest + k * s->lanes, rows + k * stride, (size_t)there * 4);
				rows = rest, stride = s->lanes;
			}
			s->b->quantize(rows, stride, s->by + t, n, s->x, words + l, s->width, scales + l, sums ? sums + l : NULL);
		}
		if (sums) sums += s->width;
	}
}

// src: x, dy, the node of ft_balance.
void ft_quantize(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ft_simd *v = ft_best_simd();
	const tensor x = dst->src[0], dy = dst->src[1];
	const struct ft_bytes *b = ft_best_bytes();
	const int64_t tokens = ft_rows(x), lanes = v->lanes;
	const struct ft_quantized q = ft_quantized_at(dst->data, x->ne[0], dy->ne[0], tokens);
	const float *by = dst->src[2]->data;
	const struct side left = { b, x, by, true, tokens, v->nr, lanes }, right = { b, dy, by + tokens, false, tokens, b->width, lanes };
	for (int64_t p = q.panels * ith / nth; p < q.panels * (ith + 1) / nth; p++)
		quantize_columns(&left, p * v->nr, q.x + p * q.quads * v->nr, q.x_scale + p * q.blocks * v->nr, NULL);
	for (int64_t p = q.strips * ith / nth; p < q.strips * (ith + 1) / nth; p++)
		quantize_columns(&right, p * v->mr, q.dy + p * q.quads * b->width, q.dy_scale + p * q.blocks * b->width, q.dy_sum + p * q.blocks * b->width);
}

// A block of a panel of x stays in the first-level cache while all strips pass by.
void ft_byte_strips(const struct ft_quantized *q, int64_t first, int64_t end, int64_t p0, int64_t n, float *g, int64_t stride) {
	const struct ft_simd *v = ft_best_simd();
	const struct ft_bytes *b = ft_best_bytes();
	for (int64_t i = 0; i < n; i += v->nr) {
		const int64_t p = p0 + i / v->nr;
		for (int64_t k = 0; k < q->blocks; k++) {
			const int64_t quad = k * FT_BYTE_BLOCK / 4, quads = ft_min(FT_BYTE_BLOCK / 4, q->quads - quad);
			for (int64_t o = first; o < end; o++) {
				const int64_t block = (o * q->blocks + k) * b->width;
				b->tile(quads, q->dy + (o * q->quads + quad) * b->width, q->dy_sum + block, q->dy_scale + block,
					q->x + (p * q->quads + quad) * v->nr, q->x_scale + (p * q->blocks + k) * v->nr,
					g + (o - first) * v->mr * stride + i, stride, k > 0);
			}
		}
	}
}
