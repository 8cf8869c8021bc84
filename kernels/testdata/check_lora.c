// W + s·B·A for A [n_in, r] and B [r, n_out], and the gradients of the two.
#include "check.h"

#include <math.h>
#include <stdlib.h>

static const float scale = 0.5f;

static void check_sum(tensor a, tensor b, int type, int64_t tokens, const char *what) {
	const int64_t n_in = a->ne[0], n_out = b->ne[1], r = a->ne[1];
	struct sum s = { .parts = { new_tensor(type, n_in, n_out), a, b } };
	s.want = want_like(s.parts[0]);
	double *w = dense(s.parts[0]), *av = dense(a), *bv = dense(b);
	for (int64_t o = 0; o < n_out; o++)
		for (int64_t i = 0; i < n_in; i++) {
			add_term(&s.want, o * n_in + i, w[o * n_in + i]);
			for (int64_t k = 0; k < r; k++) add_term(&s.want, o * n_in + i, scale * bv[o * r + k] * av[k * n_in + i]);
		}
	check_products(what, &s, tokens, ft_lora_mul, ft_lora_mul_t, scale);
	drop_want(s.want), drop(s.parts[0]), free(w), free(av), free(bv);
}

// inner [r, tokens] = s·Σ_i f(i, k)·x[i, t] with f's elements line and rank apart, and the same of magnitudes.
static struct want want_inner(const double *f, int64_t line, int64_t rank, const double *x, int64_t n, int64_t r, int64_t tokens) {
	struct want w = new_want(r * tokens);
	for (int64_t t = 0; t < tokens; t++)
		for (int64_t k = 0; k < r; k++)
			for (int64_t i = 0; i < n; i++) add_term(&w, t * r + k, scale * f[i * line + k * rank] * x[t * n + i]);
	return w;
}

// Adds Σ_t x[i, t]·inner[k, t] to the gradient at i·line + k·rank.
static void add_outer(struct want *w, int64_t offset, int64_t line, int64_t rank, const double *x, const struct want *inner, int64_t n,
	int64_t r, int64_t tokens) {
	for (int64_t t = 0; t < tokens; t++)
		for (int64_t k = 0; k < r; k++)
			for (int64_t i = 0; i < n; i++) {
				w->sum[offset + i * line + k * rank] += x[t * n + i] * inner->sum[t * r + k];
				w->abs[offset + i * line + k * rank] += fabs(x[t * n + i]) * inner->abs[t * r + k];
			}
}

static struct want want_grads(tensor a, tensor b, tensor x, tensor dy) {
	const int64_t n_in = a->ne[0], n_out = b->ne[1], r = a->ne[1], tokens = x->ne[1];
	double *av = dense(a), *bv = dense(b), *xv = dense(x), *dyv = dense(dy);
	struct want w = new_want((n_in + n_out) * r);
	struct want t = want_inner(av, 1, n_in, xv, n_in, r, tokens), dt = want_inner(bv, r, 1, dyv, n_out, r, tokens);
	add_outer(&w, 0, 1, n_in, xv, &dt, n_in, r, tokens);
	add_outer(&w, r * n_in, r, 1, dyv, &t, n_out, r, tokens);
	drop_want(t), drop_want(dt), free(av), free(bv), free(xv), free(dyv);
	return w;
}

static void check_grads(tensor a, tensor b, int64_t tokens, const char *what) {
	const int64_t n_in = a->ne[0], n_out = b->ne[1], r = a->ne[1];
	tensor x = new_rows(F32, n_in, tokens, draw(2) * 3), dy = new_rows(F32, n_out, tokens, draw(2) * 3);
	tensor inner = new_result(ft_up(r, 4), tokens, 2, 1), all = new_result((n_in + n_out) * r, 1, 1, 1);
	inner->src[0] = x, inner->src[1] = dy, inner->src[2] = a, inner->src[3] = b;
	all->src[0] = inner, all->src[1] = x, all->src[2] = dy, all->src[3] = a, all->src[4] = b;
	const struct result result = { "factor gradients", all, want_grads(a, b, x, dy) };
	check_nodes(what, (struct node[]){ { inner, ft_lora_inner, scale, NULL }, { all, ft_lora_outer, 0, NULL } }, 2, &result, 1);
	drop_want(result.want), drop(x), drop(dy), drop(inner), drop(all);
}

void check_lora(void) {
	// Ranks beside a multiple of four, above a tile (14 rows, 32 columns) and above a block's steps (320); tokens beside
	// the three or six that are taken together; columns beside strips of 12 to 96 and beyond what is copied of a factor.
	static const int64_t sizes[][4] = { // n_in, n_out, tokens, r
		{ 1, 1, 1, 1 }, { 5, 33, 2, 3 }, { 32, 7, 15, 4 }, { 172, 17, 13, 1 }, { 352, 35, 29, 8 }, { 33, 530, 7, 5 }, { 544, 97, 3, 40 },
		{ 19, 21, 331, 2 }, { 96, 1, 1, 20 }, { 1, 70, 14, 9 }, { 64, 47, 5, 333 }, { 2500, 13, 4, 4 }, { 320, 520, 2, 3 }, { 544, 320, 2, 5 },
	};
	static const int types[] = { F32, F16, Q8 };
	for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++) {
		const int64_t *s = sizes[c];
		tensor a = new_tensor(F32, s[0], s[3]), b = new_tensor(F32, s[3], s[1]);
		const char *what = label("lora %lldx%lldx%lld r%lld", (long long)s[0], (long long)s[1], (long long)s[2], (long long)s[3]);
		for (size_t k = 0; k < sizeof types / sizeof *types; k++)
			if (types[k] != Q8 || s[0] % BLOCK == 0) check_sum(a, b, types[k], s[2], what);
		check_grads(a, b, s[2], what);
		drop(a), drop(b);
	}
}
