// Attention and its derivative, for queries over fewer heads of keys, in the layouts in which they come from a model.
#include "check.h"
#include "attention.h"

#include <math.h>
#include <stdlib.h>

static const struct layout over_heads = { "tokens over heads", { 0, 2, 1, 3 }, 0 }, plain = { "plain", { 0, 1, 2, 3 }, 0 },
	transposed = { "transposed, tokens over heads", { 1, 2, 0, 3 }, 0 };

struct size { int64_t w, u, n, m, heads, group, seqs; int window, bias; };

// What query i sees of key j: keys up to its own place, of a window, with a distance.
static double mask_of(const struct size *s, int64_t i, int64_t j) {
	const int64_t at = i + s->m - s->n; // queries are the last tokens
	if (j > at || (s->window && at - j >= s->window)) return -INFINITY;
	return s->bias ? -(double)(at - j) / 8 : 0;
}

struct wanted { struct want y, dq, dk, dv; };

// One query of one head: its probabilities, and their gradients, as terms of every sum that they enter. Rounding of a logit
// scales its exponential, hence `blur`.
static void add_query(const struct size *s, const double *q, const double *k, const double *v, const double *dy, double scale, int64_t i,
	struct wanted *out, const int64_t at[4]) {
	double *p = calloc((size_t)s->m * 3, sizeof *p), *dp = p + s->m, *blur = dp + s->m, most = -INFINITY, sum = 0, dot = 0, sizes = 0;
	for (int64_t j = 0; j < s->m; j++) {
		p[j] = mask_of(s, i, j), blur[j] = 1;
		for (int64_t e = 0; e < s->w; e++) p[j] += scale * q[e] * k[j * s->w + e], blur[j] += fabs(scale * q[e] * k[j * s->w + e]);
		for (int64_t e = 0; e < s->u; e++) dp[j] += v[e * s->m + j] * dy[e];
		most = p[j] > most ? p[j] : most;
	}
	for (int64_t j = 0; j < s->m; j++) sum += p[j] = exp(p[j] - most);
	for (int64_t j = 0; j < s->m; j++) p[j] /= sum, dot += p[j] * dp[j], sizes += p[j] * fabs(dp[j]);
	for (int64_t j = 0; j < s->m; j++) {
		const double ds = scale * p[j] * (dp[j] - dot), size = scale * p[j] * (fabs(dp[j]) + sizes + (double)s->u) * blur[j];
		for (int64_t e = 0; e < s->u; e++) {
			const int64_t y = at[0] * s->u + e, dv = at[3] + j * s->heads * s->u + e;
			add_term(&out->y, y, p[j] * v[e * s->m + j]), out->y.abs[y] += blur[j] * p[j] * fabs(v[e * s->m + j]);
			add_term(&out->dv, dv, p[j] * dy[e]), out->dv.abs[dv] += blur[j] * p[j] * fabs(dy[e]);
		}
		for (int64_t e = 0; e < s->w; e++) {
			const int64_t dq = at[1] * s->w + e, dk = at[2] + j * s->heads * s->w + e;
			add_term(&out->dq, dq, ds * k[j * s->w + e]), out->dq.abs[dq] += size * fabs(k[j * s->w + e]);
			add_term(&out->dk, dk, ds * q[e]), out->dk.abs[dk] += size * fabs(q[e]);
		}
	}
	free(p);
}

static void check_size(const struct size *s) {
	const int64_t H = s->heads * s->group, rows = s->n * H * s->seqs;
	const float scale = 0.375f;
	tensor q = new_view(&over_heads, s->w, s->n, H, s->seqs), k = new_view(&over_heads, s->w, s->m, s->heads, s->seqs);
	tensor v = new_view(&transposed, s->m, s->u, s->heads, s->seqs), dy = new_view(&plain, s->u, s->n, H, s->seqs);
	tensor mask = new_result(s->m, s->n, 1, s->seqs), spans = new_result(FT_SPAN, s->n, 1, s->seqs);
	for (int64_t i = 0; i < elements(mask); i++) ((float *)mask->data)[i] = (float)mask_of(s, i / s->m % s->n, i % s->m);
	tensor y = new_result(rows * (s->u + 1), 1, 1, 1);
	tensor back = new_result(rows * s->w + s->heads * s->seqs * ft_attention_parts(q, k) * ft_attention_part(k, v), 1, 1, 1);
	tensor sums = new_result(s->heads * s->m * s->seqs * (s->w + s->u), 1, 1, 1);
	spans->src[0] = mask;
	const tensor operands[] = { q, k, v, mask, spans, y, dy };
	for (int i = 0; i < 7; i++) y->src[i < 5 ? i : 9] = i < 5 ? operands[i] : NULL, back->src[i] = operands[i];
	sums->src[0] = back, sums->src[1] = q, sums->src[2] = k, sums->src[3] = v;

	struct wanted w = { new_want(rows * s->u), new_want(rows * s->w), new_want(s->heads * s->m * s->seqs * s->w), new_want(s->heads * s->m * s->seqs * s->u) };
	double *dq = dense(q), *dk = dense(k), *dv = dense(v), *ddy = dense(dy);
	for (int64_t seq = 0; seq < s->seqs; seq++)
		for (int64_t h = 0; h < H; h++)
			for (int64_t i = 0; i < s->n; i++) {
				const int64_t row = (seq * H + h) * s->n + i, kv = seq * s->heads + h / s->group, out = (seq * s->n + i) * H + h;
				const int64_t at[4] = { out, out, (seq * s->m * s->heads + h / s->group) * s->w, (seq * s->m * s->heads + h / s->group) * s->u };
				add_query(s, dq + row * s->w, dk + kv * s->m * s->w, dv + kv * s->m * s->u, ddy + row * s->u, scale, i, &w, at);
			}
	struct want both = new_want(w.dk.n + w.dv.n);
	for (int64_t i = 0; i < both.n; i++) {
		const struct want *from = i < w.dk.n ? &w.dk : &w.dv;
		const int64_t j = i < w.dk.n ? i : i - w.dk.n;
		set_want(&both, i, from->sum[j], from->abs[j]);
	}
	const struct node nodes[] = { { spans, ft_mask_spans, 0, NULL }, { y, ft_attention, scale, NULL }, { back, ft_attention_back, scale, NULL },
		{ sums, ft_attention_sum, 0, NULL } };
	const struct result results[] = { { "y", y, w.y }, { "dq", back, w.dq }, { "dk, dv", sums, both } };
	check_nodes(label("attention w%lld u%lld n%lld m%lld heads %lldx%lld seqs %lld window %d bias %d", (long long)s->w, (long long)s->u, (long long)s->n,
		(long long)s->m, (long long)s->heads, (long long)s->group, (long long)s->seqs, s->window, s->bias), nodes, 4, results, 3);
	drop(q), drop(k), drop(v), drop(dy), drop(mask), drop(spans), drop(y), drop(back), drop(sums);
	free(dq), free(dk), free(dv), free(ddy);
	drop_want(w.y), drop_want(w.dq), drop_want(w.dk), drop_want(w.dv), drop_want(both);
}

void check_attention(void) {
	// One token, heads narrower and wider than a panel, of other widths for keys and values, tokens around tiles and blocks.
	static const struct size sizes[] = {
		{ 1, 1, 1, 1, 1, 1, 1, 0, 0 }, { 5, 3, 3, 3, 1, 2, 1, 0, 0 }, { 8, 8, 17, 17, 4, 2, 2, 0, 1 }, { 33, 40, 30, 30, 2, 1, 2, 7, 0 },
		{ 64, 16, 57, 57, 1, 3, 1, 0, 0 }, { 16, 64, 29, 65, 1, 3, 1, 0, 1 }, { 40, 40, 113, 113, 2, 1, 1, 16, 0 }, { 12, 20, 1, 70, 2, 1, 1, 0, 0 },
	};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_size(&sizes[i]);
}
