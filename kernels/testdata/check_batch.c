// The products of attention, head by head, over every layout of every operand. P = p·g2 and Q = q·g3 heads meet p and q of a.
#include "check.h"

#include <stdlib.h>

static const struct layout layouts[] = {
	{ "plain", { 0, 1, 2, 3 }, 0 },
	{ "tokens over heads", { 0, 2, 1, 3 }, 0 },
	{ "transposed", { 1, 0, 2, 3 }, 0 },
	{ "transposed, tokens over heads", { 1, 2, 0, 3 }, 0 },
	{ "part of a row", { 0, 1, 2, 3 }, 7 },
	{ "part of a column", { 1, 0, 2, 3 }, 7 },
};
enum { LAYOUTS = sizeof layouts / sizeof *layouts };

struct size { int64_t k, n, m, p, g2, q, g3; };

struct heads { double *a, *b, *dy; }; // [k, n, p, q], [k, m, P, Q], [n, m, P, Q], dense

static int64_t all_heads(const struct size *s) { return s->p * s->g2 * s->q * s->g3; }

// The head of a that head h of b meets.
static int64_t head_of_a(const struct size *s, int64_t h) {
	const int64_t P = s->p * s->g2;
	return h / P / s->g3 * s->p + h % P / s->g2;
}

static struct want want_y(const struct size *s, const struct heads *v) {
	struct want w = new_want(s->n * s->m * all_heads(s));
	for (int64_t h = 0; h < all_heads(s); h++) {
		const double *a = v->a + head_of_a(s, h) * s->n * s->k;
		for (int64_t m = h * s->m; m < (h + 1) * s->m; m++)
			for (int64_t n = 0; n < s->n; n++)
				for (int64_t k = 0; k < s->k; k++) add_term(&w, m * s->n + n, a[n * s->k + k] * v->b[m * s->k + k]);
	}
	return w;
}

static struct want want_db(const struct size *s, const struct heads *v) {
	struct want w = new_want(s->k * s->m * all_heads(s));
	for (int64_t h = 0; h < all_heads(s); h++) {
		const double *a = v->a + head_of_a(s, h) * s->n * s->k;
		for (int64_t m = h * s->m; m < (h + 1) * s->m; m++)
			for (int64_t n = 0; n < s->n; n++)
				for (int64_t k = 0; k < s->k; k++) add_term(&w, m * s->k + k, a[n * s->k + k] * v->dy[m * s->n + n]);
	}
	return w;
}

// The gradient of a, or of its transpose.
static struct want want_da(const struct size *s, const struct heads *v, bool transposed) {
	const int64_t of_n = transposed ? 1 : s->k, of_k = transposed ? s->n : 1;
	struct want w = new_want(s->k * s->n * s->p * s->q);
	for (int64_t h = 0; h < all_heads(s); h++) {
		const int64_t from = head_of_a(s, h) * s->n * s->k;
		for (int64_t m = h * s->m; m < (h + 1) * s->m; m++)
			for (int64_t n = 0; n < s->n; n++)
				for (int64_t k = 0; k < s->k; k++) add_term(&w, from + n * of_n + k * of_k, v->b[m * s->k + k] * v->dy[m * s->n + n]);
	}
	return w;
}

static void check_node(const char *what, const char *name, ft_kernel kernel, tensor left, tensor right, tensor dst, struct want want) {
	dst->src[0] = left, dst->src[1] = right;
	check_nodes(what, &(struct node){ dst, kernel, 0, NULL }, 1, &(struct result){ name, dst, want }, 1);
	drop(dst), drop_want(want);
}

static void check_layouts(const struct size *s, const struct layout *la, const struct layout *lb, const struct layout *ldy) {
	const int64_t P = s->p * s->g2, Q = s->q * s->g3;
	const char *what = label("batch k%lld n%lld m%lld heads %lldx%lld of %lldx%lld (%s; %s; %s)", (long long)s->k, (long long)s->n,
		(long long)s->m, (long long)s->p, (long long)s->q, (long long)P, (long long)Q, la->name, lb->name, ldy->name);
	tensor a = new_view(la, s->k, s->n, s->p, s->q), b = new_view(lb, s->k, s->m, P, Q), dy = new_view(ldy, s->n, s->m, P, Q);
	const struct heads v = { dense(a), dense(b), dense(dy) };
	check_node(what, "y", ft_batch_mul, a, b, new_result(s->n, s->m, P, Q), want_y(s, &v));
	check_node(what, "db", ft_batch_mul_t, a, dy, new_result(s->k, s->m, P, Q), want_db(s, &v));
	check_node(what, "da", ft_batch_outer, b, dy, new_result(s->k, s->n, s->p, s->q), want_da(s, &v, false));
	check_node(what, "da transposed", ft_batch_outer, dy, b, new_result(s->n, s->k, s->p, s->q), want_da(s, &v, true));
	drop(a), drop(b), drop(dy), free(v.a), free(v.b), free(v.dy);
}

void check_batch(void) {
	// Around the tiles and blocks of the product, one token, one column, one step; groups of heads in either dimension.
	static const struct size sizes[] = {
		{ 1, 1, 1, 1, 1, 1, 1 }, { 5, 1, 1, 1, 1, 1, 1 }, { 1, 3, 1, 2, 1, 1, 1 }, { 5, 3, 3, 1, 2, 1, 1 }, { 5, 17, 17, 2, 3, 1, 1 },
		{ 5, 33, 33, 1, 7, 2, 1 }, { 16, 33, 17, 2, 1, 2, 3 }, { 64, 40, 1, 3, 3, 1, 1 }, { 47, 35, 16, 2, 2, 1, 2 }, { 337, 33, 17, 1, 2, 1, 1 },
		{ 8, 9, 300, 1, 2, 1, 1 }, { 320, 540, 2, 1, 1, 1, 1 }, { 330, 481, 3, 1, 1, 1, 1 }, { 331, 3, 481, 1, 1, 1, 1 },
	};
	// Every two of a, b and dy meet with either dimension contiguous in either; the last sizes, the work of most, take two turns.
	static const int turns[][3] = { { 0, 1, 4 }, { 3, 4, 5 }, { 1, 2, 3 }, { 2, 5, 0 } };
	enum { SIZES = sizeof sizes / sizeof *sizes, LARGE = 3 };
	for (int c = 0; c < SIZES; c++)
		for (int i = 0; i < (c < SIZES - LARGE ? 4 : 2); i++)
			check_layouts(&sizes[c], &layouts[turns[i][0]], &layouts[turns[i][1]], &layouts[turns[i][2]]);
	static const struct size small = { 33, 5, 17, 3, 2, 1, 1 };
	for (int i = 0; i < LAYOUTS; i++)
		for (int j = 0; j < LAYOUTS; j++) check_layouts(&small, &layouts[i], &layouts[j], &layouts[(i + j) % LAYOUTS]);
}
