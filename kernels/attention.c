#include "attention.h"

#include <math.h>
#include <string.h>

// y = softmax(scale·q·Kᵀ + mask)·V for blocks of some fifty queries: their scores, against all keys that they see, fit the
// second-level cache and never leave it. Keys that no query of a tile sees, half of them under a causal mask, are never
// multiplied. The derivative forms the scores again from the logarithm of each row's sum.
//
// K and V of a head are packed once for all queries of all heads that share them, as panels (gemm.h): "across" has the
// tokens as columns, for products that sum over the head's width, "along" has them as steps.

enum { BLOCK = 56 }; // queries in a block, about: a multiple of the tile's rows

struct span { int64_t from, to; };

struct attention {
	const struct ft_simd *v;
	const struct ft_batch_simd *tiles;
	const struct ggml_tensor *q, *k, *values, *mask, *spans;
	int64_t queries, keys, heads, kv_heads, group; // group: heads of Q to one of K
	int64_t wide_k, wide_v, up_k, up_v;            // width of a head of Q and K, of V; whole panels of it
	int64_t rows, ld;                              // of a block of scores
	float scale;
	const float *across_of; // the head of K whose panels are in across_k
	float *across_k, *along_k, *across_v, *along_v;
	float *scores, *slopes;     // [rows][ld]: P, dS
	float *query, *result;      // [rows][up_k], [rows][up_v]
	float *query_pan, *dy, *dy_pan, *rest;
};

static const float *row(const struct ggml_tensor *t, int token_dim, int64_t token, int64_t head, int64_t seq) {
	return (const float *)((const char *)t->data + (size_t)token * t->nb[token_dim] + (size_t)head * t->nb[2] + (size_t)seq * t->nb[3]);
}

static const int32_t *span_of(const struct attention *a, int64_t token, int64_t seq) {
	return (const int32_t *)a->spans->data + (seq * a->queries + token) * FT_SPAN;
}

static int64_t up(const struct ft_simd *v, int64_t n) { return ft_up(n, v->nr); }

// Tokens of a head as the columns of panels [⌈tokens/NR⌉][width][NR].
static void pack_across(const struct attention *a, const struct ggml_tensor *t, int token_dim, int64_t width, int64_t head, int64_t seq, float *out) {
	const struct ft_simd *v = a->v;
	const int64_t stride = (int64_t)t->nb[token_dim] / 4;
	for (int64_t j = 0; j < up(v, a->keys); j += v->lanes) {
		float *to = out + j / v->nr * v->nr * width + j % v->nr;
		if (j + v->lanes <= a->keys) {
			v->columns(width, row(t, token_dim, j, head, seq), stride, to);
			continue;
		}
		memset(a->rest, 0, (size_t)(v->lanes * width) * 4);
		for (int64_t i = j; i < a->keys; i++) memcpy(a->rest + (i - j) * width, row(t, token_dim, i, head, seq), (size_t)width * 4);
		v->columns(width, a->rest, width, to);
	}
}

// Row `token` of `tokens` as a step of panels [⌈width/NR⌉][tokens][NR].
static void pack_along(const struct ft_simd *v, const float *from, int64_t width, int64_t token, int64_t tokens, float *out) {
	const int64_t whole = width / v->nr * v->nr;
	float *to = out + token * v->nr;
	v->spread(from, whole, tokens * v->nr, to);
	if (whole == width) return;
	_Alignas(64) float rest[FT_NR_MAX] = { 0 };
	memcpy(rest, from + whole, (size_t)(width - whole) * 4);
	v->spread(rest, v->nr, tokens * v->nr, to + whole * tokens);
}

static struct attention prepare(const struct ggml_tensor *dst, float scale) {
	struct attention a = { .v = ft_best_simd(), .tiles = ft_best_batch_simd(), .q = dst->src[0], .k = dst->src[1],
		.values = dst->src[2], .mask = dst->src[3], .spans = dst->src[4], .scale = scale };
	a.wide_k = a.q->ne[0], a.queries = a.q->ne[1], a.heads = a.q->ne[2];
	a.keys = a.k->ne[1], a.kv_heads = a.k->ne[2], a.group = a.heads / a.kv_heads;
	a.wide_v = a.values->ne[1];
	a.up_k = up(a.v, a.wide_k), a.up_v = up(a.v, a.wide_v);
	a.rows = ft_up(BLOCK, a.v->mr);
	a.ld = up(a.v, a.keys) + FT_NR_MAX; // room for the tiles of add_keys
	return a;
}

// Places in one piece of scratch memory, for the forward pass or the derivative, if there is one; returns their floats.
static size_t lay_out(struct attention *a, bool back, float *scratch) {
	const int64_t keys = up(a->v, a->keys), scores = a->rows * a->ld, widest = a->wide_k > a->wide_v ? a->wide_k : a->wide_v;
	const struct { float **place; int64_t floats; } parts[] = {
		{ &a->across_k, keys * a->wide_k }, { &a->scores, scores }, { &a->query, a->rows * a->up_k },
		{ &a->result, a->rows * (back ? a->up_k : a->up_v) }, { &a->rest, a->v->lanes * widest },
		{ &a->along_v, back ? 0 : keys * a->up_v }, { &a->along_k, back ? keys * a->up_k : 0 },
		{ &a->across_v, back ? keys * a->wide_v : 0 }, { &a->slopes, back ? scores : 0 }, { &a->query_pan, back ? a->rows * a->up_k : 0 },
		{ &a->dy, back ? a->rows * a->up_v : 0 }, { &a->dy_pan, back ? a->rows * a->up_v : 0 },
	};
	size_t total = 0;
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		if (scratch) *parts[i].place = scratch + total;
		total += (size_t)ft_up(parts[i].floats, FT_LANES_MAX);
	}
	return total;
}

static float *take_scratch(struct attention *a, bool back) {
	float *scratch = ft_scratch_take(lay_out(a, back, NULL));
	lay_out(a, back, scratch);
	return scratch;
}

size_t ft_attention_scratch(const struct ggml_tensor *dst, bool back) {
	struct attention a = prepare(dst, 0);
	return lay_out(&a, back, NULL);
}

static void pack_head(struct attention *a, int64_t kv_head, int64_t seq, bool back) {
	const float *head = row(a->k, 1, 0, kv_head, seq);
	if (a->across_of == head) return;
	a->across_of = head;
	pack_across(a, a->k, 1, a->wide_k, kv_head, seq, a->across_k);
	if (back) {
		pack_across(a, a->values, 0, a->wide_v, kv_head, seq, a->across_v);
		for (int64_t t = 0; t < a->keys; t++) pack_along(a->v, row(a->k, 1, t, kv_head, seq), a->wide_k, t, a->keys, a->along_k);
	} else {
		for (int64_t t = 0; t < a->keys; t++) pack_along(a->v, row(a->values, 0, t, kv_head, seq), a->wide_v, t, a->keys, a->along_v);
	}
}

// The keys that queries [from, to) see, from the first to the last.
static struct span seen(const struct attention *a, int64_t from, int64_t to, int64_t seq) {
	struct span s = { a->keys, 0 };
	for (int64_t i = from; i < to; i++) {
		const int32_t *span = span_of(a, i, seq);
		if (span[0] >= span[1]) continue;
		if (span[0] < s.from) s.from = span[0];
		if (span[1] > s.to) s.to = span[1];
	}
	if (s.from > s.to) s.from = s.to = 0;
	return s;
}

// Rows [i, i+count) of a block become `to` [mr rows][width]; missing rows are 0.
static void copy_rows(const struct attention *a, const struct ggml_tensor *t, int64_t first, int64_t count, int64_t head, int64_t seq,
	int64_t width, float scale, float *to) {
	for (int64_t r = 0; r < count; r++) {
		const float *from = row(t, 1, first + r, head, seq);
		for (int64_t i = 0; i < width; i++) to[r * width + i] = from[i] * scale;
	}
	memset(to + count * width, 0, (size_t)((ft_up(count, a->v->mr) - count) * width) * 4);
}

// out [mr][ld] at columns [s.from, s.to), rounded out to panels: the rows of x [mr][width] times packed tokens.
static void multiply_across(const struct attention *a, const float *x, int64_t width, const float *packed, struct span s, float *out) {
	for (int64_t j = s.from / a->v->nr * a->v->nr; j < s.to; j += a->v->nr)
		a->tiles->tile_rows(width, x, width, packed + j * width, out + j, a->ld, false);
}

// out [mr][up] = the rows of p [mr][ld] at columns [s.from, s.to) times packed tokens.
static void multiply_along(const struct attention *a, const float *p, const float *packed, struct span s, int64_t up, float *out) {
	for (int64_t j = 0; j < up; j += a->v->nr)
		a->tiles->tile_rows(s.to - s.from, p + s.from, a->ld, packed + j * a->keys + s.from * a->v->nr, out + j, up, false);
}

// Clears columns [s.from, s.to) of a row outside of `inside`.
static void clear_outside(float *p, struct span s, struct span inside) {
	if (inside.from >= inside.to) inside.from = inside.to = s.to;
	if (inside.from > s.from) memset(p + s.from, 0, (size_t)(inside.from - s.from) * 4);
	if (s.to > inside.to) memset(p + inside.to, 0, (size_t)(s.to - inside.to) * 4);
}

static struct span row_span(const struct attention *a, int64_t token, int64_t seq, const float **mask) {
	const int32_t *span = span_of(a, token, seq);
	*mask = span[2] ? NULL : row(a->mask, 1, token, 0, seq) + span[0];
	return (struct span){ span[0], span[1] };
}

// Queries [first, first+count) of a head, which fit a block.
static void forward_block(struct attention *a, int64_t head, int64_t seq, int64_t first, int64_t count, float *out, float *lse) {
	const int mr = a->v->mr;
	copy_rows(a, a->q, first, count, head, seq, a->wide_k, a->scale, a->query);
	for (int64_t i = 0; i < count; i += mr) {
		const int64_t rows = ft_min(mr, count - i);
		const struct span s = seen(a, first + i, first + i + rows, seq);
		float *p = a->scores + i * a->ld;
		float sums[FT_MR_MAX];
		multiply_across(a, a->query + i * a->wide_k, a->wide_k, a->across_k, s, p);
		for (int64_t r = 0; r < rows; r++) {
			const float *mask;
			const struct span own = row_span(a, first + i + r, seq, &mask);
			float *own_lse = lse + (seq * a->heads + head) * a->queries + first + i + r;
			sums[r] = 1, *own_lse = 0;
			if (own.from < own.to) sums[r] = a->v->soft_row(p + r * a->ld + own.from, mask, own.to - own.from, own_lse);
			clear_outside(p + r * a->ld, s, own);
		}
		multiply_along(a, p, a->along_v, s, a->up_v, a->result);
		for (int64_t r = 0; r < rows; r++) {
			float *y = out + ((seq * a->queries + first + i + r) * a->heads + head) * a->wide_v;
			const float inverse = 1 / sums[r];
			for (int64_t j = 0; j < a->wide_v; j++) y[j] = a->result[r * a->up_v + j] * inverse;
		}
	}
}

// src: q [w, n, H, S], k [w, m, h, S], v [m, u, h, S], mask [m, n, 1, S], spans [4, n, 1, S]; parameter 0 is the scale.
// dst: y [u, H, n, S], then the logarithm of every row's sum [n, H, S].
void ft_attention(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	struct attention a = prepare(dst, ft_param(dst, 0));
	const int64_t seqs = a.q->ne[3], blocks = (a.queries + a.rows - 1) / a.rows;
	float *out = dst->data, *lse = out + a.wide_v * a.heads * a.queries * seqs;
	// Blocks cost what they see; each thread takes those that begin in its part of the sum of all.
	int64_t total = 0, at = 0;
	for (int64_t s = 0; s < seqs; s++)
		for (int64_t b = 0; b < blocks; b++) {
			const struct span range = seen(&a, b * a.rows, ft_min(a.queries, (b + 1) * a.rows), s);
			total += (range.to - range.from + BLOCK) * a.heads;
		}
	float *scratch = take_scratch(&a, false);
	for (int64_t s = 0; s < seqs; s++)
		for (int64_t h = 0; h < a.heads; h++)
			for (int64_t b = 0; b < blocks; b++) {
				const int64_t first = b * a.rows, last = ft_min(a.queries, first + a.rows);
				const struct span range = seen(&a, first, last, s);
				const bool mine = at >= total * ith / nth && at < total * (ith + 1) / nth;
				at += range.to - range.from + BLOCK;
				if (!mine) continue;
				pack_head(&a, h / a.group, s, false);
				forward_block(&a, h, s, first, last - first, out, lse);
			}
	ft_scratch_give(scratch);
}

int64_t ft_attention_parts(const struct ggml_tensor *q, const struct ggml_tensor *k) {
	const int64_t all = k->ne[2] * k->ne[3], most = q->ne[2] / k->ne[2] * ((q->ne[1] + BLOCK - 1) / BLOCK);
	return ft_min((16 + all - 1) / all, most);
}

static int64_t part_rows(int64_t keys) { return keys + FT_PART_ROWS; }

int64_t ft_attention_part(const struct ggml_tensor *k, const struct ggml_tensor *v) {
	return part_rows(k->ne[1]) * (ft_up(k->ne[0], FT_PART_COLS) + ft_up(v->ne[1], FT_PART_COLS));
}

// dK and dV of a block of queries are added to sums [keys][…]: for a tile of keys, over the queries that see them.
static void add_keys(const struct attention *a, int64_t first, int64_t count, int64_t seq, struct span s, float *dk, float *dv) {
	const int mr = a->v->mr;
	const int64_t ld_k = ft_up(a->wide_k, FT_PART_COLS), ld_v = ft_up(a->wide_v, FT_PART_COLS), rows = ft_up(count, mr);
	for (int64_t m = s.from / mr * mr; m < s.to; m += mr) {
		int64_t from = count, to = 0;
		for (int64_t r = 0; r < count; r++) {
			const int32_t *span = span_of(a, first + r, seq);
			if (span[1] <= m || span[0] >= m + mr) continue;
			if (r < from) from = r;
			to = r + 1;
		}
		if (from >= to) continue;
		const float *p = a->scores + from * a->ld + m, *ds = a->slopes + from * a->ld + m;
		for (int64_t j = 0; j < a->up_v; j += a->v->nr)
			a->tiles->tile_columns(to - from, p, a->ld, a->dy_pan + j * rows + from * a->v->nr, dv + m * ld_v + j, ld_v, true);
		for (int64_t j = 0; j < a->up_k; j += a->v->nr)
			a->tiles->tile_columns(to - from, ds, a->ld, a->query_pan + j * rows + from * a->v->nr, dk + m * ld_k + j, ld_k, true);
	}
}

struct slope { // what the derivative reads and writes beside the operands
	const struct ggml_tensor *dy;
	const float *y, *lse;
	float *dq;
};

static void backward_block(struct attention *a, struct slope *g, int64_t head, int64_t seq, int64_t first, int64_t count, float *dk, float *dv) {
	const int mr = a->v->mr;
	const int64_t rows = ft_up(count, mr);
	const struct span all = seen(a, first, first + count, seq), wide = { all.from / mr * mr, ft_up(all.to, mr) };
	copy_rows(a, a->q, first, count, head, seq, a->wide_k, a->scale, a->query);
	copy_rows(a, g->dy, first, count, head, seq, a->wide_v, 1, a->dy);
	for (int64_t r = 0; r < rows; r++) {
		pack_along(a->v, a->query + r * a->wide_k, a->wide_k, r, rows, a->query_pan);
		pack_along(a->v, a->dy + r * a->wide_v, a->wide_v, r, rows, a->dy_pan);
	}
	for (int64_t i = 0; i < count; i += mr) {
		const int64_t tile_rows = ft_min(mr, count - i);
		const struct span s = seen(a, first + i, first + i + tile_rows, seq);
		float *p = a->scores + i * a->ld, *ds = a->slopes + i * a->ld;
		multiply_across(a, a->query + i * a->wide_k, a->wide_k, a->across_k, s, p);
		multiply_across(a, a->dy + i * a->wide_v, a->wide_v, a->across_v, s, ds);
		for (int64_t r = 0; r < tile_rows; r++) {
			const int64_t token = first + i + r;
			const float *mask, *y = g->y + ((seq * a->queries + token) * a->heads + head) * a->wide_v, *dy = a->dy + (i + r) * a->wide_v;
			const struct span own = row_span(a, token, seq, &mask);
			double dot = 0;
			for (int64_t j = 0; j < a->wide_v; j++) dot += y[j] * dy[j];
			if (own.from < own.to)
				a->v->soft_row_back(p + r * a->ld + own.from, ds + r * a->ld + own.from, mask, own.to - own.from,
					g->lse[(seq * a->heads + head) * a->queries + token], (float)dot);
			clear_outside(p + r * a->ld, wide, own);
			clear_outside(ds + r * a->ld, wide, own);
		}
		multiply_along(a, ds, a->along_k, s, a->up_k, a->result);
		for (int64_t r = 0; r < tile_rows; r++) {
			float *dq = g->dq + ((seq * a->queries + first + i + r) * a->heads + head) * a->wide_k;
			for (int64_t j = 0; j < a->wide_k; j++) dq[j] = a->result[r * a->up_k + j] * a->scale;
		}
	}
	add_keys(a, first, count, seq, all, dk, dv);
}

// One piece of the work on a head of K and V: of the blocks of its queries, dealt out there and back, since later blocks
// see more, every parts-th.
static void backward_part(struct attention *a, struct slope *g, int64_t kv_head, int64_t seq, int64_t part, int64_t parts, float *sums) {
	const int64_t blocks = (a->queries + a->rows - 1) / a->rows;
	float *dk = sums, *dv = sums + part_rows(a->keys) * ft_up(a->wide_k, FT_PART_COLS);
	memset(sums, 0, (size_t)ft_attention_part(a->k, a->values) * 4);
	pack_head(a, kv_head, seq, true);
	for (int64_t i = 0; i < blocks * a->group; i++) {
		const int64_t turn = i % parts, whose = i / parts % 2 ? parts - 1 - turn : turn;
		if (whose != part) continue;
		const int64_t first = i / a->group * a->rows;
		backward_block(a, g, kv_head * a->group + i % a->group, seq, first, ft_min(a->rows, a->queries - first), dk, dv);
	}
}

// src: as ft_attention, then its result and dy [u, n, H, S]; parameter 0 is the scale.
// dst: dq [w, H, n, S], then for each piece of the work the sums of dK and dV, to be summed by ft_attention_sum.
void ft_attention_back(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	struct attention a = prepare(dst, ft_param(dst, 0));
	const int64_t seqs = a.q->ne[3], parts = ft_attention_parts(a.q, a.k), size = ft_attention_part(a.k, a.values);
	struct slope g = { .dy = dst->src[6], .y = dst->src[5]->data, .dq = dst->data };
	g.lse = g.y + a.wide_v * a.heads * a.queries * seqs;
	float *sums = g.dq + a.wide_k * a.heads * a.queries * seqs;
	float *scratch = take_scratch(&a, true);
	const int64_t items = seqs * a.kv_heads * parts, to = items * (ith + 1) / nth;
	for (int64_t i = items * ith / nth; i < to; i++)
		backward_part(&a, &g, i / parts % a.kv_heads, i / parts / a.kv_heads, i % parts, parts, sums + i * size);
	ft_scratch_give(scratch);
}

// Rows of one token, summed over the pieces.
static void sum_row(const float *from, int64_t size, int64_t parts, int64_t width, float *to) {
	memcpy(to, from, (size_t)width * 4);
	for (int64_t p = 1; p < parts; p++)
		for (int64_t i = 0; i < width; i++) to[i] += from[p * size + i];
}

// src: the result of ft_attention_back, then its q, k and v. dst: dk [w, h, m, S], then dv [u, h, m, S].
void ft_attention_sum(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ggml_tensor *q = dst->src[1], *k = dst->src[2], *v = dst->src[3];
	const int64_t keys = k->ne[1], heads = k->ne[2], seqs = k->ne[3], wide_k = k->ne[0], wide_v = v->ne[1];
	const int64_t parts = ft_attention_parts(q, k), size = ft_attention_part(k, v);
	const float *sums = (const float *)dst->src[0]->data + wide_k * q->ne[1] * q->ne[2] * q->ne[3];
	float *dk = dst->data, *dv = dk + wide_k * heads * keys * seqs;
	const int64_t ld_k = ft_up(wide_k, FT_PART_COLS), ld_v = ft_up(wide_v, FT_PART_COLS), rows = keys * seqs;
	for (int64_t i = rows * ith / nth; i < rows * (ith + 1) / nth; i++)
		for (int64_t h = 0; h < heads; h++) {
			const float *head = sums + ((i / keys) * heads + h) * parts * size;
			sum_row(head + i % keys * ld_k, size, parts, wide_k, dk + (i * heads + h) * wide_k);
			sum_row(head + part_rows(keys) * ld_k + i % keys * ld_v, size, parts, wide_v, dv + (i * heads + h) * wide_v);
		}
}

// src: mask [m, n, 1, S]. dst: I32 [4, n, 1, S]. A key with −∞ between others is seen as hidden by the mask itself.
void ft_mask_spans(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const struct ggml_tensor *mask = dst->src[0];
	const int64_t keys = mask->ne[0], rows = mask->ne[1] * mask->ne[3];
	for (int64_t i = rows * ith / nth; i < rows * (ith + 1) / nth; i++) {
		const float *m = (const float *)mask->data + i * keys;
		int32_t *span = (int32_t *)dst->data + i * FT_SPAN;
		int64_t from = 0, to = keys;
		while (from < to && m[from] == -INFINITY) from++;
		while (to > from && m[to - 1] == -INFINITY) to--;
		span[0] = (int32_t)from, span[1] = (int32_t)to, span[2] = 1, span[3] = 0;
		for (int64_t k = from; k < to; k++)
			if (m[k] != 0) span[2] = 0;
	}
}
