#include "batch.h"

#include <string.h>

// The packed product (gemm.h) for many small matrices. For every head of the result, C[m, n] = Σ L[m, k]·R[k, n]. Both
// operands come in either orientation. R is packed in blocks; L, which meets few columns when R is as narrow as a head, is
// read where it lies. The steps are those of one head or, for a gradient of what was broadcast, of all heads of its group
// in turn.
//
// Threads share the panels of rows of all heads. How they are cut changes no sum, so the result does not depend on it.

const struct ft_batch_simd *ft_best_batch_simd(void) {
	const char *name = ft_best_simd()->name;
#if defined(__x86_64__)
	if (strcmp(name, ft_batch_avx512.name) == 0) return &ft_batch_avx512;
	if (strcmp(name, ft_batch_avx2.name) == 0) return &ft_batch_avx2;
#elif defined(__aarch64__)
	if (strcmp(name, ft_batch_neon.name) == 0) return &ft_batch_neon;
#endif
	return &ft_batch_portable;
}

enum {
	NEIGHBOURS = 32, // panels of L that go together
	COPIED = 4,      // tiles of columns from which on a panel of L is copied
};

// A head of an operand: element (i, k) is data[i·line + k·step], k being what the sum runs over. One of the two is 1.
struct matrix {
	const float *data;
	int64_t line, step;
};

struct batch {
	const struct ft_simd *v;
	const struct ft_batch_simd *tiles;
	tensor dst;
	const struct ggml_tensor *left, *right;
	int left_sum, right_sum; // the dimension, 0 or 1, over which the sum runs
	bool add;                // to what is in dst
	int64_t m, n, k;         // of one head
	int64_t kc, kb, nc;      // steps in a panel of L, steps (a multiple of kc) and columns in a block of R
	float *packed, *rest;
	const float *packed_of;  // the head and the block in packed
	int64_t packed_j, packed_k;
};

// Head i of a result with `heads`, for an operand with as many, fewer (broadcast) or more (summed, g-th of the group).
static int64_t head_index(int64_t i, int64_t heads, int64_t own, int64_t g) {
	return own >= heads ? i * (own / heads) + g : i / (heads / own);
}

static struct matrix head_of(const struct batch *b, const struct ggml_tensor *t, int sum, int64_t head, int64_t g2, int64_t g3) {
	const int64_t *ne = b->dst->ne;
	const int64_t i2 = head_index(head % ne[2], ne[2], t->ne[2], g2), i3 = head_index(head / ne[2], ne[3], t->ne[3], g3);
	const int64_t s0 = t->ne[0] == 1 ? 1 : (int64_t)t->nb[0] / 4, s1 = t->ne[1] == 1 ? 1 : (int64_t)t->nb[1] / 4;
	const float *data = (const float *)((const char *)t->data + (size_t)i2 * t->nb[2] + (size_t)i3 * t->nb[3]);
	return sum == 0 ? (struct matrix){ data, s1, s0 } : (struct matrix){ data, s0, s1 };
}

// Panels of R whose steps are contiguous: columns are transposed, as many as a vector has lanes at a time.
static void transpose_right(const struct batch *b, struct matrix r, int64_t j0, int64_t j1, int64_t k0, int64_t k, float *packed) {
	const struct ft_simd *v = b->v;
	for (int64_t j = j0; j < ft_up(j1 - j0, v->nr) + j0; j += v->lanes) {
		float *out = packed + (j - j0) / v->nr * v->nr * k + (j - j0) % v->nr;
		if (j + v->lanes <= j1) {
			v->columns(k, r.data + j * r.line + k0, r.line, out);
			continue;
		}
		memset(b->rest, 0, (size_t)(v->lanes * FT_KS) * 4);
		for (int64_t q = 0; q < j1 - j; q++) memcpy(b->rest + q * FT_KS, r.data + (j + q) * r.line + k0, (size_t)k * 4);
		v->columns(k, b->rest, FT_KS, out);
	}
}

// Panels of R whose columns are contiguous.
static void copy_right(const struct batch *b, struct matrix r, int64_t j0, int64_t j1, int64_t k0, int64_t k, float *packed) {
	const struct ft_simd *v = b->v;
	const int64_t n = j1 - j0, whole = n / v->nr * v->nr;
	_Alignas(64) float rest[FT_NR_MAX] = { 0 };
	for (int64_t p = 0; p < k; p++) {
		const float *row = r.data + (k0 + p) * r.step + j0;
		float *out = packed + p * v->nr;
		v->spread(row, whole, k * v->nr, out);
		if (whole == n) continue;
		memcpy(rest, row + whole, (size_t)(n - whole) * 4);
		v->spread(rest, v->nr, k * v->nr, out + whole * k);
	}
}

// Heads of a group follow each other and share R, whose block need not be packed again.
static void pack_right(struct batch *b, struct matrix r, int64_t j0, int64_t j1, int64_t k0, int64_t k1) {
	if (b->packed_of == r.data && b->packed_j == j0 && b->packed_k == k0) return;
	b->packed_of = r.data, b->packed_j = j0, b->packed_k = k0;
	for (int64_t k = k0; k < k1; k += b->kc)
		(r.step == 1 ? transpose_right : copy_right)(b, r, j0, j1, k, ft_min(b->kc, k1 - k), b->packed + (k - k0) * ft_up(j1 - j0, b->v->nr));
}

// Rows [i, i+rows) of L over k steps from k0, fewer than a tile has, with rows of 0 after them.
static struct matrix pad_rows(const struct batch *b, struct matrix l, int64_t i, int64_t rows, int64_t k0, int64_t k) {
	if (l.step == 1) {
		for (int64_t r = 0; r < rows; r++) memcpy(b->rest + r * FT_KS, l.data + (i + r) * l.line + k0, (size_t)k * 4);
		for (int64_t r = rows; r < b->v->mr; r++) memset(b->rest + r * FT_KS, 0, (size_t)k * 4);
		return (struct matrix){ b->rest, FT_KS, 1 };
	}
	memset(b->rest, 0, (size_t)(k * FT_AK) * 4);
	for (int64_t p = 0; p < k; p++) memcpy(b->rest + p * FT_AK, l.data + (k0 + p) * l.step + i, (size_t)rows * 4);
	return (struct matrix){ b->rest, 1, FT_AK };
}

// Whole rows [i, i+mr) of L whose rows are contiguous, step after step: worth it where many columns of R meet them, since
// a step of L where it lies touches two cache lines, and steps that are a power of two apart share few places in a cache.
static struct matrix copy_rows(const struct batch *b, struct matrix l, int64_t i, int64_t k0, int64_t k) {
	const float *from = l.data + k0 * l.step + i;
	if (i + FT_AK <= b->m)
		for (int64_t p = 0; p < k; p++) {
			__builtin_prefetch(from + (p + 16) * l.step + FT_AK - 1);
			memcpy(b->rest + p * FT_AK, from + p * l.step, FT_AK * 4); // a constant size is one move
		}
	else
		for (int64_t p = 0; p < k; p++) memcpy(b->rest + p * FT_AK, from + p * l.step, (size_t)b->v->mr * 4);
	return (struct matrix){ b->rest, 1, FT_AK };
}

static void tile(const struct batch *b, struct matrix l, int64_t k, const float *r, float *c, int64_t ldc, bool add) {
	if (l.step == 1) b->tiles->tile_rows(k, l.data, l.line, r, c, ldc, add);
	else b->tiles->tile_columns(k, l.data, l.step, r, c, ldc, add);
}

// A tile at the border of C goes through a buffer of the full size.
static void border_tile(const struct batch *b, struct matrix l, int64_t k, const float *r, float *c, int64_t rows, int64_t cols, bool add) {
	_Alignas(64) float t[FT_MR_MAX * FT_NR_MAX];
	tile(b, l, k, r, t, b->v->nr, false);
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < cols; j++) c[i * b->n + j] = t[i * b->v->nr + j] + (add ? c[i * b->n + j] : 0);
}

// Rows [i, i+rows) and n columns of the result at c over k steps from k0, with R packed in r.
static void multiply_panel(const struct batch *b, struct matrix l, int64_t i, int64_t rows, int64_t k0, int64_t k, const float *r,
	float *c, int64_t n, bool add) {
	const struct ft_simd *v = b->v;
	if (rows < v->mr) l = pad_rows(b, l, i, rows, k0, k);
	else if (l.step != 1 && n > COPIED * v->nr) l = copy_rows(b, l, i, k0, k);
	else l.data += i * l.line + k0 * l.step;
	for (int64_t j = 0; j < n; j += v->nr) {
		const int64_t cols = ft_min(v->nr, n - j);
		if (rows == v->mr && cols == v->nr) tile(b, l, k, r + j * k, c + j, b->n, add);
		else border_tile(b, l, k, r + j * k, c + j, rows, cols, add);
	}
}

// Rows [i0, i1) and columns [j0, j1) of c, the result's head, over steps [k0, k1), with R packed. Where the rows of L are
// what is contiguous, neighbouring panels share cache lines and go together; else each goes from end to end.
static void multiply_block(const struct batch *b, struct matrix l, int64_t i0, int64_t i1, int64_t j0, int64_t j1, int64_t k0, int64_t k1,
	float *c, bool add) {
	const int64_t width = ft_up(j1 - j0, b->v->nr), rows = b->v->mr * (l.step == 1 ? 1 : NEIGHBOURS);
	for (int64_t i = i0; i < i1; i += rows)
		for (int64_t k = k0; k < k1; k += b->kc)
			for (int64_t p = i; p < ft_min(i1, i + rows); p += b->v->mr)
				multiply_panel(b, l, p, ft_min(b->v->mr, i1 - p), k, ft_min(b->kc, k1 - k), b->packed + (k - k0) * width,
					c + p * b->n + j0, j1 - j0, add || k > k0);
}

// How many heads of an operand are summed for one of the result.
static int64_t summed(int64_t own, int64_t heads) { return own > heads ? own / heads : 1; }

// Rows [i0, i1) of one head of the result.
static void multiply_head(struct batch *b, int64_t head, int64_t i0, int64_t i1) {
	const int64_t groups2 = summed(b->left->ne[2], b->dst->ne[2]), groups = groups2 * summed(b->left->ne[3], b->dst->ne[3]);
	float *c = (float *)b->dst->data + head * b->m * b->n;
	for (int64_t j = 0; j < b->n; j += b->nc)
		for (int64_t g = 0; g < groups; g++) {
			const struct matrix l = head_of(b, b->left, b->left_sum, head, g % groups2, g / groups2);
			const struct matrix r = head_of(b, b->right, b->right_sum, head, g % groups2, g / groups2);
			for (int64_t k = 0; k < b->k; k += b->kb) {
				const int64_t j1 = ft_min(b->n, j + b->nc), k1 = ft_min(b->k, k + b->kb);
				pack_right(b, r, j, j1, k, k1);
				multiply_block(b, l, i0, i1, j, j1, k, k1, c, b->add || g > 0 || k > 0);
			}
		}
}

// What R's block takes; the rest is for a panel at a border.
static int64_t block_floats(const struct ft_simd *v) { return (int64_t)v->nc * FT_KC; }

size_t ft_batch_scratch(void) { return (size_t)block_floats(ft_best_simd()) + FT_LANES_MAX * FT_KS; }

static void multiply(struct batch b, int ith, int nth) {
	b.v = ft_best_simd(), b.tiles = ft_best_batch_simd();
	b.n = b.dst->ne[0], b.m = b.dst->ne[1], b.k = b.left->ne[b.left_sum];
	const int64_t blocks = (b.k + FT_KC - 1) / FT_KC, room = block_floats(b.v);
	b.kc = ft_min(FT_KC, ft_up((b.k + blocks - 1) / blocks, 16));
	b.nc = ft_min(ft_up(b.n, b.v->nr), room / b.kc / b.v->nr * b.v->nr);
	b.kb = room / b.nc / b.kc * b.kc;
	b.packed = ft_scratch_take(ft_batch_scratch());
	b.rest = b.packed + room;

	const int64_t panels = (b.m + b.v->mr - 1) / b.v->mr, all = panels * b.dst->ne[2] * b.dst->ne[3];
	const int64_t to = all * (ith + 1) / nth;
	for (int64_t p = all * ith / nth; p < to;) {
		const int64_t head = p / panels, end = ft_min(to, (head + 1) * panels);
		multiply_head(&b, head, p % panels * b.v->mr, ft_min(b.m, (end - head * panels) * b.v->mr));
		p = end;
	}
	ft_scratch_give(b.packed);
}

// src: a [k, n, p, q], b [k, m, P, Q]. dst: [n, m, P, Q].
void ft_batch_mul(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	multiply((struct batch){ .dst = dst, .left = dst->src[1], .left_sum = 0, .right = dst->src[0], .right_sum = 0 }, ith, nth);
}

// src: a [k, n, p, q], dy [n, m, P, Q]. dst: [k, m, P, Q].
void ft_batch_mul_t(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	multiply((struct batch){ .dst = dst, .left = dst->src[1], .left_sum = 0, .right = dst->src[0], .right_sum = 1 }, ith, nth);
}

// src: b [k, m, P, Q], dy [n, m, P, Q]. dst: [k, n, p, q].
void ft_batch_outer(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	multiply((struct batch){ .dst = dst, .left = dst->src[1], .left_sum = 1, .right = dst->src[0], .right_sum = 1 }, ith, nth);
}

// src: dst, b [k, m, P, Q], dy [n, m, P, Q]. dst: [k, n, p, q], to which the product is added.
void ft_add_outer(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	multiply((struct batch){ .dst = dst, .left = dst->src[2], .left_sum = 1, .right = dst->src[1], .right_sum = 1, .add = true }, ith, nth);
}
