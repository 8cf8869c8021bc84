// W + s·ReLU(B·A) ⊙ sign(D·C) and the gradients of A [n_in, r1], B [r1, n_out], C [n_in, r2] and D [r2, n_out]. M = B·A and
// N = D·C are exact in float32, so that their signs are certain.
#include "check.h"

#include <math.h>
#include <stdlib.h>

static const float scale = 0.5f;

struct dual {
	int64_t n_in, n_out, r1, r2;
	tensor f[4];
	double *v[4], *m, *n; // the factors; M and N [n_in, n_out]
};

static double *rank_product(const double *a, const double *b, int64_t n_in, int64_t n_out, int64_t r) {
	double *p = calloc((size_t)(n_in * n_out), sizeof *p);
	for (int64_t o = 0; o < n_out; o++)
		for (int64_t k = 0; k < r; k++)
			for (int64_t i = 0; i < n_in; i++) p[o * n_in + i] += b[o * r + k] * a[k * n_in + i];
	return p;
}

static struct dual new_dual(int64_t n_in, int64_t n_out, int64_t r1, int64_t r2) {
	struct dual d = { n_in, n_out, r1, r2, { new_tensor(F32, n_in, r1), new_tensor(F32, r1, n_out), new_tensor(F32, n_in, r2),
		new_tensor(F32, r2, n_out) }, { NULL }, NULL, NULL };
	for (int i = 0; i < 4; i++) d.v[i] = dense(d.f[i]);
	d.m = rank_product(d.v[0], d.v[1], n_in, n_out, r1), d.n = rank_product(d.v[2], d.v[3], n_in, n_out, r2);
	return d;
}

static void drop_dual(struct dual *d) {
	for (int i = 0; i < 4; i++) drop(d->f[i]), free(d->v[i]);
	free(d->m), free(d->n);
}

static void check_sum(const struct dual *d, int type, int64_t tokens, const char *what) {
	struct sum s = { .parts = { new_tensor(type, d->n_in, d->n_out), d->f[0], d->f[1], d->f[2], d->f[3] } };
	s.want = want_like(s.parts[0]);
	double *w = dense(s.parts[0]);
	for (int64_t i = 0; i < s.want.n; i++) {
		add_term(&s.want, i, w[i]);
		if (d->m[i] > 0) add_term(&s.want, i, scale * d->m[i] * (d->n[i] > 0 ? 1 : -1));
	}
	check_products(what, &s, tokens, ft_dual_mul, ft_dual_mul_t, scale);
	drop_want(s.want), drop(s.parts[0]), free(w);
}

// The gradients of a left factor [n_in, r] and of its right one [r, n_out] from one element of dM or dN: value is bound in
// magnitude by abs.
static void add_grads(const struct dual *d, struct want *w, int64_t left, int64_t right, int64_t r, const double *a, const double *b,
	int64_t i, int64_t o, double value, double abs) {
	for (int64_t k = 0; k < r; k++) {
		w->sum[left + k * d->n_in + i] += b[o * r + k] * value, w->abs[left + k * d->n_in + i] += fabs(b[o * r + k]) * abs;
		w->sum[right + o * r + k] += a[k * d->n_in + i] * value, w->abs[right + o * r + k] += fabs(a[k * d->n_in + i]) * abs;
	}
}

static struct want want_grads(const struct dual *d, const double *x, const double *dy, int64_t tokens) {
	const int64_t n_in = d->n_in, n_out = d->n_out, b = d->r1 * n_in, c = b + d->r1 * n_out, dd = c + d->r2 * n_in;
	struct want w = new_want(dd + d->r2 * n_out);
	for (int64_t o = 0; o < n_out; o++)
		for (int64_t i = 0; i < n_in; i++) {
			double g = 0, abs = 0;
			for (int64_t t = 0; t < tokens; t++) g += x[t * n_in + i] * dy[t * n_out + o], abs += fabs(x[t * n_in + i] * dy[t * n_out + o]);
			const double m = d->m[o * n_in + i], sign = d->n[o * n_in + i] > 0 ? 1 : -1, relu = m > 0 ? m : 0;
			if (m >= 0) add_grads(d, &w, 0, b, d->r1, d->v[0], d->v[1], i, o, scale * g * sign, scale * abs);
			add_grads(d, &w, c, dd, d->r2, d->v[2], d->v[3], i, o, scale * g * relu, scale * abs * relu);
		}
	return w;
}

// A part of a result as an operand of its own.
static struct ggml_tensor part_of(tensor t, int64_t offset, int64_t n0, int64_t n1) {
	struct ggml_tensor p = *t;
	p.data = (float *)t->data + offset;
	p.ne[0] = n0, p.ne[1] = n1;
	for (int i = 1; i < 4; i++) p.nb[i] = p.nb[i - 1] * (size_t)p.ne[i - 1];
	return p;
}

static struct want part_of_want(struct want w, int64_t from, int64_t n) { return (struct want){ n, w.sum + from, w.abs + from }; }

// The same gradients where the magnitude has one rank.
static void check_thin(const struct dual *d, tensor x, tensor dy, struct want want, const char *what) {
	const int64_t n_in = d->n_in, n_out = d->n_out, r = 2 * d->r2, parts = ft_dual_parts(n_in, n_out, 1);
	tensor factors = new_result(r * (n_in + n_out), 1, 1, 1), inner = new_result(ft_up(r, 4), x->ne[1], 2, 1);
	tensor directions = new_result(r * (n_in + n_out), 1, 1, 1), shares = new_result(parts * n_in + n_out, 1, 1, 1);
	tensor magnitude = new_result(n_in + n_out, 1, 1, 1), all = new_result(d->r2 * (n_in + n_out), 1, 1, 1);
	struct ggml_tensor left = part_of(factors, 0, n_in, r), right = part_of(factors, r * n_in, r, n_out);
	for (int i = 0; i < 4; i++) factors->src[i] = shares->src[2 + i] = d->f[i];
	inner->src[0] = shares->src[0] = directions->src[1] = x, inner->src[1] = shares->src[1] = directions->src[2] = dy;
	inner->src[2] = directions->src[3] = &left, inner->src[3] = directions->src[4] = &right, directions->src[0] = inner;
	magnitude->src[0] = shares, all->src[0] = directions;
	for (int i = 0; i < 2; i++) magnitude->src[1 + i] = d->f[i];
	for (int i = 0; i < 3; i++) all->src[1 + i] = d->f[i];
	const struct result results[] = { { "magnitude's gradients of a thin one", magnitude, part_of_want(want, 0, n_in + n_out) },
		{ "directions' gradients of a thin one", all, part_of_want(want, n_in + n_out, d->r2 * (n_in + n_out)) } };
	check_nodes(what, (struct node[]){ { factors, ft_thin_factors, 0, NULL }, { inner, ft_lora_inner, scale, NULL },
		{ directions, ft_lora_outer, 0, NULL }, { all, ft_thin_directions, 0, NULL },
		{ shares, ft_thin_grads, scale, NULL }, { magnitude, ft_thin_sum, 0, NULL } }, 6, results, 2);
	drop(factors), drop(inner), drop(directions), drop(shares), drop(magnitude), drop(all);
}

static void check_grads(const struct dual *d, int64_t tokens, const char *what) {
	const int64_t ranks = d->r1 + d->r2;
	tensor x = new_rows(F32, d->n_in, tokens, draw(2) * 3), dy = new_rows(F32, d->n_out, tokens, draw(2) * 3);
	tensor shares = new_result(ft_dual_parts(d->n_in, d->n_out, ranks) * d->n_in * ranks + d->n_out * ranks, 1, 1, 1);
	tensor all = new_result((d->n_in + d->n_out) * ranks, 1, 1, 1);
	shares->src[0] = x, shares->src[1] = dy, all->src[0] = shares;
	for (int i = 0; i < 4; i++) shares->src[2 + i] = all->src[1 + i] = d->f[i];
	double *xv = dense(x), *dyv = dense(dy);
	const struct result result = { "factor gradients", all, want_grads(d, xv, dyv, tokens) };
	check_nodes(what, (struct node[]){ { shares, ft_dual_grads, scale, NULL }, { all, ft_dual_sum, 0, NULL } }, 2, &result, 1);
	if (d->r1 == 1) check_thin(d, x, dy, result.want, what);
	drop_want(result.want), drop(x), drop(dy), drop(shares), drop(all), free(xv), free(dyv);
}

void check_dual(void) {
	// Beside the product's blocks: 14 rows for each of up to 24 parts, 768 columns and 1024 tokens at a time.
	static const int64_t sizes[][5] = { // n_in, n_out, tokens, r1, r2
		{ 1, 1, 1, 1, 1 }, { 5, 33, 2, 1, 3 }, { 32, 7, 15, 4, 4 }, { 172, 17, 13, 2, 1 }, { 352, 35, 29, 3, 5 }, { 33, 530, 7, 1, 1 },
		{ 544, 19, 3, 4, 2 }, { 19, 21, 1030, 1, 2 }, { 330, 16, 9, 9, 4 }, { 1601, 15, 3, 2, 3 }, { 40, 29, 5, 33, 17 }, { 96, 1, 1, 1, 20 }, { 320, 520, 2, 1, 2 },
		{ 544, 320, 2, 2, 1 },
	};
	static const int types[] = { F32, F16, Q8 };
	for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++) {
		const int64_t *s = sizes[c];
		struct dual d = new_dual(s[0], s[1], s[3], s[4]);
		const char *what = label("dual %lldx%lldx%lld r%lld+%lld", (long long)s[0], (long long)s[1], (long long)s[2], (long long)s[3], (long long)s[4]);
		for (size_t k = 0; k < sizeof types / sizeof *types; k++)
			if (types[k] != Q8 || s[0] % BLOCK == 0) check_sum(&d, types[k], s[2], what);
		check_grads(&d, s[2], what);
		drop_dual(&d);
	}
}
