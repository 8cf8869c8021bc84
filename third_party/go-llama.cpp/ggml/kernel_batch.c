#include "kernel_batch.h"

#include <string.h>

// The packed product (gemm.h) for many small matrices. For every head of the result, C[m, n] = Σ L[m, k]·R[k, n], where
// both operands are read where they lie, in either orientation, and packed in pieces. The steps are those of one head or,
// for a gradient of what was broadcast, of all heads of its group in turn.
//
// Threads share the panels of rows of all heads. How they are cut changes no sum, so the result does not depend on it.

// A head of an operand: element (i, k) is data[i·line + k·step], k being what the sum runs over. One of the two is 1.
struct matrix {
	const float *data;
	int64_t line, step;
};

struct batch {
	const struct ft_simd *v;
	tensor dst;
	const struct ggml_tensor *left, *right;
	int left_sum, right_sum; // the dimension, 0 or 1, over which the sum runs
	int64_t m, n, k;         // of one head
	int64_t kc, nc;          // steps and columns in a block of R
	float *packed, *panel, *rest;
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
static void transpose_right(struct batch *b, struct matrix r, int64_t j0, int64_t j1, int64_t k0, int64_t k) {
	const struct ft_simd *v = b->v;
	for (int64_t j = j0; j < ft_up(j1 - j0, v->nr) + j0; j += v->lanes) {
		float *out = b->packed + (j - j0) / v->nr * v->nr * k + (j - j0) % v->nr;
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
static void copy_right(struct batch *b, struct matrix r, int64_t j0, int64_t j1, int64_t k0, int64_t k) {
	const struct ft_simd *v = b->v;
	const int64_t n = j1 - j0, whole = n / v->nr * v->nr;
	_Alignas(64) float rest[FT_NR_MAX] = { 0 };
	for (int64_t p = 0; p < k; p++) {
		const float *row = r.data + (k0 + p) * r.step + j0;
		float *out = b->packed + p * v->nr;
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
	if (r.step == 1) transpose_right(b, r, j0, j1, k0, k1 - k0);
	else copy_right(b, r, j0, j1, k0, k1 - k0);
}

// A panel of L whose steps are contiguous becomes [MR][FT_KS]; missing rows are 0.
static void copy_rows(const struct batch *b, struct matrix l, int64_t i, int64_t rows, int64_t k0, int64_t k) {
	for (int64_t r = 0; r < b->v->mr; r++) {
		if (r < rows) memcpy(b->panel + r * FT_KS, l.data + (i + r) * l.line + k0, (size_t)k * 4);
		else memset(b->panel + r * FT_KS, 0, (size_t)k * 4);
	}
}

// A panel of L whose rows are contiguous becomes [k][FT_AK]; missing rows are 0.
static void copy_steps(const struct batch *b, struct matrix l, int64_t i, int64_t rows, int64_t k0, int64_t k) {
	const float *in = l.data + k0 * l.step + i;
	float *out = b->panel;
	if (i + FT_AK <= b->m) {
		for (; k > 0; k--, in += l.step, out += FT_AK) memcpy(out, in, FT_AK * 4); // a constant size is a few moves
		return;
	}
	memset(out, 0, (size_t)(k * FT_AK) * 4);
	for (; k > 0; k--, in += l.step, out += FT_AK) memcpy(out, in, (size_t)rows * 4);
}

// Asks for part `part` of `parts` of the next panel of L, rows [i, i+rows), between the tiles of this one.
static void prefetch_left(struct matrix l, int64_t i, int64_t rows, int64_t k0, int64_t k, int64_t part, int64_t parts) {
	if (l.step == 1) {
		for (int64_t r = rows * part / parts; r < rows * (part + 1) / parts; r++)
			for (int64_t p = 0; p < k; p += 16) __builtin_prefetch(l.data + (i + r) * l.line + k0 + p);
	} else if (rows > 0) {
		for (int64_t p = k * part / parts; p < k * (part + 1) / parts; p++)
			__builtin_prefetch(l.data + (k0 + p) * l.step + i + rows - 1);
	}
}

typedef void (*tile_function)(int64_t k, const float *a, const float *b, float *c, int64_t ldc, bool add);

// A tile at the border of C goes through a buffer of the full size.
static void border_tile(const struct batch *b, tile_function tile, int64_t k, const float *r, float *c, int64_t rows, int64_t cols, bool add) {
	_Alignas(64) float t[FT_MR_MAX * FT_NR_MAX];
	tile(k, b->panel, r, t, b->v->nr, false);
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < cols; j++) c[i * b->n + j] = t[i * b->v->nr + j] + (add ? c[i * b->n + j] : 0);
}

// Rows [i0, i1) and columns [j0, j1) of c, the result's head, over k steps from k0, with R packed.
static void multiply_block(const struct batch *b, struct matrix l, int64_t i0, int64_t i1, int64_t j0, int64_t j1, int64_t k0, int64_t k,
	float *c, bool add) {
	const struct ft_simd *v = b->v;
	const tile_function tile = l.step == 1 ? v->tile : v->tile_steps;
	const int64_t tiles = (j1 - j0 + v->nr - 1) / v->nr;
	for (int64_t i = i0; i < i1; i += v->mr) {
		const int64_t rows = ft_min(v->mr, i1 - i), next = ft_min(v->mr, i1 - i - rows);
		if (l.step == 1) copy_rows(b, l, i, rows, k0, k);
		else copy_steps(b, l, i, rows, k0, k);
		for (int64_t t = 0; t < tiles; t++) {
			const int64_t j = j0 + t * v->nr, cols = ft_min(v->nr, j1 - j);
			const float *r = b->packed + t * v->nr * k;
			prefetch_left(l, i + rows, next, k0, k, t, tiles);
			if (rows == v->mr && cols == v->nr) tile(k, b->panel, r, c + i * b->n + j, b->n, add);
			else border_tile(b, tile, k, r, c + i * b->n + j, rows, cols, add);
		}
	}
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
			for (int64_t k = 0; k < b->k; k += b->kc) {
				const int64_t j1 = ft_min(b->n, j + b->nc), k1 = ft_min(b->k, k + b->kc);
				pack_right(b, r, j, j1, k, k1);
				multiply_block(b, l, i0, i1, j, j1, k, k1 - k, c, g > 0 || k > 0);
			}
		}
}

static void multiply(struct batch b, int ith, int nth) {
	b.v = ft_best_simd();
	b.n = b.dst->ne[0], b.m = b.dst->ne[1], b.k = b.left->ne[b.left_sum];
	const int64_t blocks = (b.k + FT_KC - 1) / FT_KC, room = (int64_t)b.v->nc * FT_KC;
	b.kc = ft_min(FT_KC, ft_up((b.k + blocks - 1) / blocks, 16));
	b.nc = ft_min(ft_up(b.n, b.v->nr), room / b.kc / b.v->nr * b.v->nr);
	b.packed = ft_scratch_take((size_t)(room + FT_LANES_MAX * FT_KS * 2));
	b.panel = b.packed + room, b.rest = b.panel + FT_LANES_MAX * FT_KS;

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
