// Layers with a state, packed documents in each sequence. What is wanted of the derivatives follows their definition in
// double; kernels/recurrent_test.go holds that against differences.
#include "check.h"
#include "recurrent.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static tensor new_positions(int64_t tokens, int64_t seqs, int64_t document) {
	tensor pos = new_tensor(F32, tokens * seqs, 1);
	for (int64_t i = 0; i < tokens * seqs; i++) ((int32_t *)pos->data)[i] = (int32_t)(i % tokens % document);
	return pos;
}

static void check_conv(int64_t taps, int64_t channels, int64_t tokens, int64_t seqs, int64_t document) {
	const struct layout rows = { "part of a row", { 0, 1, 2, 3 }, 3 };
	tensor x = new_view(&rows, channels, tokens, seqs, 1), dy = new_view(&rows, channels, tokens, seqs, 1);
	tensor w = new_tensor(F32, taps, channels), pos = new_positions(tokens, seqs, document);
	tensor y = new_result(channels, tokens, seqs, 1), dx = new_result(channels, tokens, seqs, 1), dw = new_result(taps, channels, 1, 1);
	struct want wy = want_like(y), wdx = want_like(dx), wdw = want_like(dw);
	for (int64_t s = 0; s < seqs; s++)
		for (int64_t t = 0; t < tokens; t++)
			for (int64_t m = 0; m < taps && m <= t % document; m++)
				for (int64_t c = 0; c < channels; c++) {
					const int64_t to = (s * tokens + t) * channels + c;
					const double weight = at(w, taps - 1 - m, c, 0, 0), in = at(x, c, t - m, s, 0), slope = at(dy, c, t, s, 0);
					add_term(&wy, to, weight * in), add_term(&wdx, to - m * channels, weight * slope);
					add_term(&wdw, c * taps + taps - 1 - m, in * slope);
				}
	y->src[0] = x, dx->src[0] = dw->src[0] = dy, dw->src[1] = x;
	y->src[1] = dx->src[1] = w, y->src[2] = dx->src[2] = dw->src[2] = pos;
	const struct node nodes[] = { { y, ft_short_conv, 0, NULL }, { dx, ft_short_conv_back, 0, NULL }, { dw, ft_short_conv_weight, 0, NULL } };
	const struct result results[] = { { "y", y, wy }, { "dx", dx, wdx }, { "dw", dw, wdw } };
	check_nodes(label("convolution of %lld over %lldx%lldx%lld", (long long)taps, (long long)channels, (long long)tokens, (long long)seqs), nodes, 3, results, 3);
	drop(x), drop(dy), drop(w), drop(pos), drop(y), drop(dx), drop(dw);
	drop_want(wy), drop_want(wdx), drop_want(wdw);
}

struct size { int64_t n, heads, group, tokens, seqs, document; bool by_column; };

// One token's numbers, and where their derivatives go.
struct token { double *q, *k, *v, *g, beta; int64_t at_q, at_v, at_g, at_beta; };
struct parts { struct want y, dq, dk, dv, dg, dbeta; };

// The states before each token and behind the last, [tokens + 1][n rows][n columns], and u [tokens][n].
static void walk(const struct size *s, const struct token *t, double *states, double *u, struct parts *w) {
	const int64_t n = s->n;
	for (int64_t i = 0; i < s->tokens; i++, t++, u += n) {
		double *m = states + i * n * n, *next = m + n * n;
		if (i % s->document == 0) memset(m, 0, (size_t)(n * n) * sizeof *m);
		for (int64_t r = 0; r < n; r++) {
			u[r] = t->v[r];
			for (int64_t c = 0; c < n; c++) u[r] -= m[r * n + c] * exp(t->g[s->by_column ? c : 0]) * t->k[c];
			for (int64_t c = 0; c < n; c++) {
				next[r * n + c] = m[r * n + c] * exp(t->g[s->by_column ? c : 0]) + t->beta * u[r] * t->k[c];
				add_term(&w->y, t->at_v + r, next[r * n + c] * t->q[c] / sqrt((double)n));
			}
		}
	}
}

static void walk_back(const struct size *s, const struct token *tokens, const double *dy, double *states, const double *u, struct parts *w) {
	const int64_t n = s->n;
	double *a = calloc((size_t)(n * n), sizeof *a);
	for (int64_t i = s->tokens - 1; i >= 0; i--) {
		const struct token *t = tokens + i;
		const double *m = states + i * n * n;
		for (int64_t r = 0; r < n; r++) {
			const double slope = dy[i * n + r] / sqrt((double)n), ui = u[i * n + r];
			double sum = 0;
			for (int64_t c = 0; c < n; c++) {
				const double faded = m[r * n + c] * exp(t->g[s->by_column ? c : 0]);
				a[r * n + c] += slope * t->q[c];
				sum += a[r * n + c] * t->k[c];
				add_term(&w->dq, t->at_q + c, slope * (faded + t->beta * ui * t->k[c]));
				add_term(&w->dk, t->at_q + c, a[r * n + c] * t->beta * ui);
			}
			add_term(&w->dv, t->at_v + r, t->beta * sum), add_term(&w->dbeta, t->at_beta, sum * ui);
			for (int64_t c = 0; c < n; c++) {
				const double fade = exp(t->g[s->by_column ? c : 0]), faded = m[r * n + c] * fade;
				a[r * n + c] -= t->beta * sum * t->k[c];
				add_term(&w->dk, t->at_q + c, -t->beta * sum * faded);
				add_term(&w->dg, t->at_g + (s->by_column ? c : 0), a[r * n + c] * faded);
				a[r * n + c] = i % s->document == 0 ? 0 : a[r * n + c] * fade;
			}
		}
	}
	free(a);
}

// A derivative is as exact as the largest of its kind: what passes through the states is a sum of many.
static void level(struct want *w) {
	double most = 0;
	for (int64_t i = 0; i < w->n; i++) most = fmax(most, w->abs[i]);
	for (int64_t i = 0; i < w->n; i++) w->abs[i] = 4 * most;
}

static void gather(const struct ggml_tensor *t, int64_t head, int64_t token, int64_t seq, double *out) {
	for (int64_t i = 0; i < t->ne[0]; i++) out[i] = at(t, i, head, token, seq);
}

static void check_delta(const struct size *s) {
	const struct layout gap = { "rows apart", { 0, 1, 2, 3 }, 5 }, plain = { "plain", { 0, 1, 2, 3 }, 0 };
	const int64_t n = s->n, H = s->heads * s->group, gates = s->by_column ? n : 1, all = s->tokens * s->seqs;
	tensor src[] = { new_view(&gap, n, s->heads, s->tokens, s->seqs), new_view(&gap, n, s->heads, s->tokens, s->seqs), new_view(&gap, n, H, s->tokens, s->seqs),
		new_view(&plain, gates, H, s->tokens, s->seqs), new_view(&plain, 1, H, s->tokens, s->seqs), new_positions(s->tokens, s->seqs, s->document),
		new_view(&gap, n, H, s->tokens, s->seqs) };
	for (int64_t i = 0; i < elements(src[3]); i++) ((float *)src[3]->data)[i] = -fabsf(((float *)src[3]->data)[i]);
	for (int64_t i = 0; i < elements(src[4]); i++) ((float *)src[4]->data)[i] = fabsf(((float *)src[4]->data)[i]) / (float)n; // keys are √n long
	tensor y = new_result(n, H, s->tokens, s->seqs), back = new_result(all * (2 * n * s->heads + n * H + gates * H + H), 1, 1, 1);
	for (int i = 0; i < 7; i++) back->src[i] = src[i];
	for (int i = 0; i < 6; i++) y->src[i] = src[i];

	struct parts w = { want_like(y), new_want(all * n * s->heads), new_want(all * n * s->heads), new_want(all * n * H), new_want(all * gates * H), new_want(all * H) };
	double *numbers = calloc((size_t)(s->tokens * (4 * n + gates + n) + (s->tokens + 1) * n * n), sizeof *numbers);
	double *u = numbers + s->tokens * (4 * n + gates), *states = u + s->tokens * n;
	struct token *t = calloc((size_t)s->tokens, sizeof *t);
	for (int64_t seq = 0; seq < s->seqs; seq++)
		for (int64_t h = 0; h < H; h++) {
			double *next = numbers, *dy = next + s->tokens * (3 * n + gates);
			for (int64_t i = 0; i < s->tokens; i++) {
				const int64_t place = seq * s->tokens + i, from = h % s->heads;
				t[i] = (struct token){ next, next + n, next + 2 * n, next + 3 * n, at(src[4], 0, h, i, seq), (place * s->heads + from) * n,
					(place * H + h) * n, (place * H + h) * gates, place * H + h };
				gather(src[0], from, i, seq, t[i].q), gather(src[1], from, i, seq, t[i].k), gather(src[2], h, i, seq, t[i].v);
				gather(src[3], h, i, seq, t[i].g), gather(src[6], h, i, seq, dy + i * n);
				next += 3 * n + gates;
			}
			walk(s, t, states, u, &w);
			walk_back(s, t, dy, states, u, &w);
		}
	struct want *parts[] = { &w.dq, &w.dk, &w.dv, &w.dg, &w.dbeta }, grads = new_want(elements(back));
	for (int64_t i = 0, p = 0; p < 5; p++) {
		level(parts[p]);
		for (int64_t j = 0; j < parts[p]->n; j++) set_want(&grads, i++, parts[p]->sum[j], parts[p]->abs[j]);
	}
	level(&w.y);
	const struct node nodes[] = { { y, ft_delta_net, 0, NULL }, { back, ft_delta_net_back, 0, NULL } };
	const struct result results[] = { { "y", y, w.y }, { "gradients", back, grads } };
	check_nodes(label("delta rule n%lld heads %lldx%lld tokens %lldx%lld document %lld columns %d", (long long)n, (long long)s->heads, (long long)s->group,
		(long long)s->tokens, (long long)s->seqs, (long long)s->document, s->by_column), nodes, 2, results, 2);
	for (int i = 0; i < 7; i++) drop(src[i]);
	drop(y), drop(back), free(numbers), free(t), drop_want(w.y), drop_want(grads);
	for (int p = 0; p < 5; p++) drop_want(*parts[p]);
}

void check_recurrent(void) {
	check_conv(1, 3, 5, 1, 5), check_conv(4, 70, 9, 2, 3), check_conv(3, 5, 300, 1, 129), check_conv(4, 2, 2, 3, 2);
	static const struct size sizes[] = {
		{ 1, 1, 1, 1, 1, 1, false }, { 5, 1, 2, 3, 2, 2, true }, { 16, 2, 3, 17, 2, 7, false }, { 40, 1, 1, 26, 1, 26, true }, { 33, 2, 1, 10, 1, 9, false },
	};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_delta(&sizes[i]);
}
