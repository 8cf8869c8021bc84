#include "recurrent.h"

#include <math.h>
#include <string.h>

// The gated delta rule (arXiv 2412.06464). Each head carries a state M, whose rows belong to the channels of v and whose
// columns to those of k and q, from token to token:
//
//	M' = M ⊙ e^g     u = v − M'·k     d = β·u     M = M' + d·kᵀ     y = M·q/√n
//
// with g a number a token and head, or one for each column. Backwards, with A = dL/dM:
//
//	A += dy·qᵀ/√n    dq = Mᵀ·dy/√n    s = A·k    dv = β·s    dβ = s·u
//	dk = Aᵀ·d − M'ᵀ·dv    A' = A − dv·kᵀ    dg = Σ A' ⊙ M'    A = A' ⊙ e^g
//
// The rows of M do not know of each other, so that a few of them go through all tokens in the first-level cache. Backwards
// they go through a chunk of tokens at a time, from the last: the states at the chunks' beginnings are kept from a first
// walk forwards, those in between come from a second one. With chunks of √T tokens both take √T states of a few rows.

enum { ROWS = 16 }; // of the state that go through the tokens together

struct delta {
	const struct ft_batch_simd *v;
	const struct ggml_tensor *q, *k, *values, *gate, *beta;
	const int32_t *pos;
	int64_t width, n; // of a head; that in whole vectors
	int64_t heads_k, heads, tokens, seqs, blocks;
	bool by_column;
	float scale;
	// Scratch: one token's operands, padded.
	float *row_q, *row_k, *decay, *row_v, *y, *state;
	// Backwards: dy of a token and its sums; dL/dM; the states before each chunk, before each token of one; u of its tokens.
	float *dy, *dv, *dq, *dk, *ddecay, *slope, *starts, *states, *u;
	int64_t chunk;
};

static const float *head(const struct ggml_tensor *t, int64_t head, int64_t token, int64_t seq) {
	return (const float *)((const char *)t->data + (size_t)head * t->nb[1] + (size_t)token * t->nb[2] + (size_t)seq * t->nb[3]);
}

static struct delta prepare(const struct ggml_tensor *dst) {
	struct delta d = { .v = ft_best_batch_simd(), .q = dst->src[0], .k = dst->src[1], .values = dst->src[2], .gate = dst->src[3],
		.beta = dst->src[4], .pos = dst->src[5]->data };
	d.width = d.values->ne[0], d.n = ft_up(d.width, FT_LANES_MAX);
	d.heads_k = d.q->ne[1], d.heads = d.values->ne[1], d.tokens = d.values->ne[2], d.seqs = d.values->ne[3];
	d.blocks = (d.width + ROWS - 1) / ROWS;
	d.by_column = d.gate->ne[0] != 1;
	d.scale = (float)(1 / sqrt((double)d.width));
	d.chunk = (int64_t)ceil(sqrt((double)d.tokens));
	return d;
}

// Places in one piece of scratch memory; returns their floats.
static size_t lay_out(struct delta *d, bool back, float *scratch) {
	const int64_t size = ROWS * d->n, chunks = (d->tokens + d->chunk - 1) / d->chunk;
	const struct { float **place; int64_t floats; } parts[] = {
		{ &d->row_q, d->n }, { &d->row_k, d->n }, { &d->decay, d->n }, { &d->row_v, ROWS }, { &d->y, ROWS }, { &d->state, size },
		{ &d->u, back ? ROWS * d->chunk : ROWS }, { &d->dy, back ? ROWS : 0 }, { &d->dv, back ? ROWS : 0 },
		{ &d->dq, back ? d->n : 0 }, { &d->dk, back ? d->n : 0 }, { &d->ddecay, back ? d->n : 0 }, { &d->slope, back ? size : 0 },
		{ &d->starts, back ? size * chunks : 0 }, { &d->states, back ? size * d->chunk : 0 },
	};
	size_t total = 0;
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		if (scratch) *parts[i].place = scratch + total;
		total += (size_t)parts[i].floats;
	}
	return total;
}

static float *take_scratch(struct delta *d, bool back) {
	const size_t floats = lay_out(d, back, NULL);
	float *scratch = ft_scratch_take(floats);
	lay_out(d, back, scratch);
	memset(scratch, 0, (size_t)(3 * d->n + ROWS) * 4); // the padding of rows
	return scratch;
}

size_t ft_delta_net_scratch(const struct ggml_tensor *dst) {
	struct delta d = prepare(dst);
	return lay_out(&d, false, NULL);
}

size_t ft_delta_net_back_scratch(const struct ggml_tensor *dst) {
	struct delta d = prepare(dst);
	return lay_out(&d, true, NULL);
}

struct work { int64_t head, seq, first, count; }; // rows [first, first+count) of a head's state

// The token's operands. Padding of q, k and v is 0, so that the state's is, too.
static struct ft_delta_token load(struct delta *d, struct work w, int64_t t) {
	const int64_t from = w.head % d->heads_k;
	const float *g = head(d->gate, w.head, t, w.seq);
	memcpy(d->row_q, head(d->q, from, t, w.seq), (size_t)d->width * 4);
	memcpy(d->row_k, head(d->k, from, t, w.seq), (size_t)d->width * 4);
	memcpy(d->row_v, head(d->values, w.head, t, w.seq) + w.first, (size_t)w.count * 4);
	for (int64_t i = 0; i < d->width && d->by_column; i++) d->decay[i] = expf(g[i]);
	return (struct ft_delta_token){ d->row_q, d->row_k, d->by_column ? d->decay : NULL, d->by_column ? 0 : expf(g[0]),
		head(d->beta, w.head, t, w.seq)[0], d->scale };
}

static bool begins(const struct delta *d, struct work w, int64_t t) { return t == 0 || d->pos[w.seq * d->tokens + t] == 0; }

// One token forwards, from the state before it, which is emptied where a document begins, to the next. y may be NULL.
static void step(struct delta *d, struct work w, int64_t t, float *prev, float *next, float *u, float *y) {
	const struct ft_delta_token token = load(d, w, t);
	if (begins(d, w, t)) memset(prev, 0, (size_t)(ROWS * d->n) * 4);
	d->v->delta_step(d->n, ft_up(w.count, 4), &token, d->row_v, prev, next, u, y);
}

static struct work rows_of(const struct delta *d, int64_t head, int64_t seq, int64_t block) {
	return (struct work){ head, seq, block * ROWS, ft_min(ROWS, d->width - block * ROWS) };
}

static void clear_rest(struct delta *d, struct work w) { memset(d->row_v + w.count, 0, (size_t)(ROWS - w.count) * 4); }

// src: q [n, h, T, S], k likewise, v [n, H, T, S], H a multiple of h, g [1 or n, H, T, S], β [1, H, T, S], pos I32 [T·S].
// Head i of v goes with head i mod h of q and k. dst: y [n, H, T, S].
void ft_delta_net(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	struct delta d = prepare(dst);
	float *scratch = take_scratch(&d, false);
	const int64_t items = d.seqs * d.heads * d.blocks;
	for (int64_t i = items * ith / nth; i < items * (ith + 1) / nth; i++) {
		const struct work w = rows_of(&d, i / d.blocks % d.heads, i / d.blocks / d.heads, i % d.blocks);
		clear_rest(&d, w);
		for (int64_t t = 0; t < d.tokens; t++) {
			step(&d, w, t, d.state, d.state, d.u, d.y);
			memcpy((float *)dst->data + ((w.seq * d.tokens + t) * d.heads + w.head) * d.width + w.first, d.y, (size_t)w.count * 4);
		}
	}
	ft_scratch_give(scratch);
}

struct grads { // where the derivatives go, in the order of the tokens
	const struct ggml_tensor *dy;
	float *q, *k, *v, *g, *beta;
};

static void add(float *to, const float *from, int64_t n) {
	for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

// One token backwards.
static void step_back(struct delta *d, struct grads *g, struct work w, int64_t t, float *prev, const float *u) {
	const struct ft_delta_token token = load(d, w, t);
	const int64_t at = w.seq * d->tokens + t, of_k = (at * d->heads_k + w.head % d->heads_k) * d->width, of_v = at * d->heads + w.head;
	memcpy(d->dy, head(g->dy, w.head, t, w.seq) + w.first, (size_t)w.count * 4);
	memset(d->dy + w.count, 0, (size_t)(ROWS - w.count) * 4);
	memset(d->dq, 0, (size_t)d->n * 4), memset(d->dk, 0, (size_t)d->n * 4), memset(d->ddecay, 0, (size_t)d->n * 4);
	g->beta[of_v] += d->v->delta_step_back(d->n, ft_up(w.count, 4), &token, prev, u, d->dy, d->slope, d->dv, d->dq, d->dk, d->ddecay);
	memcpy(g->v + of_v * d->width + w.first, d->dv, (size_t)w.count * 4);
	add(g->q + of_k, d->dq, d->width);
	add(g->k + of_k, d->dk, d->width);
	float sum = 0;
	for (int64_t i = 0; i < d->width; i++) {
		if (d->by_column) g->g[of_v * d->width + i] += d->ddecay[i] * d->decay[i];
		else sum += d->ddecay[i];
	}
	if (!d->by_column) g->g[of_v] += sum * token.fade;
	if (begins(d, w, t)) memset(d->slope, 0, (size_t)(ROWS * d->n) * 4);
}

static void rows_back(struct delta *d, struct grads *g, struct work w) {
	const int64_t size = ROWS * d->n, chunks = (d->tokens + d->chunk - 1) / d->chunk;
	clear_rest(d, w);
	memset(d->state, 0, (size_t)size * 4), memset(d->slope, 0, (size_t)size * 4);
	for (int64_t t = 0; t < (chunks - 1) * d->chunk; t++) {
		if (t % d->chunk == 0) memcpy(d->starts + t / d->chunk * size, d->state, (size_t)size * 4);
		step(d, w, t, d->state, d->state, d->u, NULL);
	}
	memcpy(d->starts + (chunks - 1) * size, d->state, (size_t)size * 4);
	for (int64_t c = chunks - 1; c >= 0; c--) {
		const int64_t first = c * d->chunk, count = ft_min(d->chunk, d->tokens - first);
		memcpy(d->states, d->starts + c * size, (size_t)size * 4);
		for (int64_t i = 0; i < count; i++)
			step(d, w, first + i, d->states + i * size, i + 1 < count ? d->states + (i + 1) * size : d->state, d->u + i * ROWS, NULL);
		for (int64_t i = count - 1; i >= 0; i--) step_back(d, g, w, first + i, d->states + i * size, d->u + i * ROWS);
	}
}

static void clear(float *from, int64_t stride, int64_t n, int64_t count) {
	for (int64_t i = 0; i < count; i++) memset(from + i * stride, 0, (size_t)n * 4);
}

// src: as ft_delta_net, then dy [n, H, T, S]. dst: dq, dk, dv, dg and dβ one after the other, each in its operand's shape. A
// thread does all that is added to one head of dq and dk.
void ft_delta_net_back(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	struct delta d = prepare(dst);
	struct grads g = { .dy = dst->src[6], .q = dst->data };
	const int64_t all = d.tokens * d.seqs, of_g = d.by_column ? d.width : 1;
	g.k = g.q + all * d.heads_k * d.width, g.v = g.k + all * d.heads_k * d.width;
	g.g = g.v + all * d.heads * d.width, g.beta = g.g + all * d.heads * of_g;
	float *scratch = take_scratch(&d, true);
	const int64_t items = d.seqs * d.heads_k;
	for (int64_t i = items * ith / nth; i < items * (ith + 1) / nth; i++) {
		const int64_t from = i % d.heads_k, seq = i / d.heads_k, at = seq * d.tokens;
		clear(g.q + (at * d.heads_k + from) * d.width, d.heads_k * d.width, d.width, d.tokens);
		clear(g.k + (at * d.heads_k + from) * d.width, d.heads_k * d.width, d.width, d.tokens);
		for (int64_t h = from; h < d.heads; h += d.heads_k) {
			clear(g.g + (at * d.heads + h) * of_g, d.heads * of_g, of_g, d.tokens);
			clear(g.beta + at * d.heads + h, d.heads, 1, d.tokens);
			for (int64_t b = 0; b < d.blocks; b++) rows_back(&d, &g, rows_of(&d, h, seq, b));
		}
	}
	ft_scratch_give(scratch);
}
