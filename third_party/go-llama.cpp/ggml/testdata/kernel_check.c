// Runs every kernel of this package over odd sizes, types and numbers of threads outside of ggml, so that it can be built
// with sanitizers, which cgo's build does not offer for C alone. From the folder above, in one line:
//
//	cc -std=gnu11 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -I.
//		testdata/kernel_check.c gemm*.c kernel*.c cross_entropy.c -lm -lpthread -o kernel_check && ./kernel_check
//
// Operands lie in heap blocks of exactly their size. Results are compared with plain sums in double.
#include "kernel_total.h"
#include "kernel_weight.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Two types stand for all: F32, and Q8_0 with its blocks of an F16 scale, here always 1/64, and 32 bytes.
enum { F32 = 0, Q8 = 8, BLOCK = 32, BLOCK_BYTES = 34 };

static void q8_to_float(const void *x, float *y, int64_t k) {
	const signed char *p = x;
	for (int64_t b = 0; b < k / BLOCK; b++)
		for (int i = 0; i < BLOCK; i++) y[b * BLOCK + i] = (float)p[b * BLOCK_BYTES + 2 + i] / 64;
}
static const struct ggml_type_traits f32_traits = { .type_name = "f32", .blck_size = 1, .type_size = 4 };
static const struct ggml_type_traits q8_traits = { .type_name = "q8_0", .blck_size = BLOCK, .type_size = BLOCK_BYTES, .to_float = q8_to_float };
const struct ggml_type_traits *ggml_get_type_traits(int type) { return type == F32 ? &f32_traits : &q8_traits; }

static uint32_t state = 1;
static int draw(int n) { return (int)((state = state * 1664525u + 1013904223u) >> 8) % n; }

static tensor new_tensor(int type, int64_t n0, int64_t n1) {
	tensor t = calloc(1, sizeof *t);
	t->type = type;
	t->ne[0] = n0, t->ne[1] = n1, t->ne[2] = t->ne[3] = 1;
	t->nb[0] = type == F32 ? 4 : BLOCK_BYTES;
	t->nb[1] = type == F32 ? (size_t)n0 * 4 : (size_t)(n0 / BLOCK) * BLOCK_BYTES;
	t->nb[2] = t->nb[3] = t->nb[1] * (size_t)n1;
	t->data = malloc(t->nb[2]);
	if (type == F32) for (int64_t i = 0; i < n0 * n1; i++) ((float *)t->data)[i] = (float)(draw(17) - 8) / 8;
	else for (size_t i = 0; i < t->nb[2]; i++) ((signed char *)t->data)[i] = (signed char)(draw(255) - 127);
	return t;
}
static void drop(tensor t) { free(t->data), free(t); }

static double at(const struct ggml_tensor *t, int64_t i, int64_t row) {
	const char *p = (const char *)t->data + (size_t)row * t->nb[1];
	if (t->type == F32) return ((const float *)p)[i];
	return ((const signed char *)p)[i / BLOCK * BLOCK_BYTES + 2 + i % BLOCK] / 64.0;
}

struct call { tensor t; ft_kernel kernel; int ith, nth; };
static void *call(void *p) {
	const struct call *c = p;
	c->kernel(c->t, c->ith, c->nth, NULL);
	return NULL;
}

static void run(tensor t, ft_kernel kernel, float param, int nth) {
	pthread_t threads[8];
	struct call calls[8];
	ft_set_param(t, 0, param);
	for (int i = 0; i < nth; i++) {
		calls[i] = (struct call){ t, kernel, i, nth };
		pthread_create(&threads[i], NULL, call, &calls[i]);
	}
	for (int i = 0; i < nth; i++) pthread_join(threads[i], NULL);
}

static int failures;
static void expect(const char *what, double got, double want, double scale) {
	if (fabs(got - want) <= 4e-6 * (scale + 1e-6)) return;
	if (failures++ < 20) fprintf(stderr, "%s: %s = %.9g, want %.9g\n", ft_best_simd()->name, what, got, want);
}

static double delta(tensor *f, int64_t i, int64_t o, double s, double *m, double *n) {
	*m = *n = 0;
	for (int64_t r = 0; r < f[0]->ne[1]; r++) *m += at(f[1], r, o) * at(f[0], i, r);
	for (int64_t r = 0; r < f[2]->ne[1]; r++) *n += at(f[3], r, o) * at(f[2], i, r);
	return s * (*m > 0 ? *m : 0) * (*n > 0 ? 1 : -1);
}

static void check_products(tensor w, tensor x, tensor dy, tensor *f, bool dual, int nth) {
	tensor y = new_tensor(F32, w->ne[1], x->ne[1]), dx = new_tensor(F32, w->ne[0], x->ne[1]);
	const double s = dual ? 0.5 : 0;
	y->src[0] = dx->src[0] = w, y->src[1] = x, dx->src[1] = dy;
	for (int i = 0; i < 4; i++) y->src[2 + i] = dx->src[2 + i] = f[i];
	run(y, dual ? ft_dual_mul_mat : ft_mul_mat, (float)s, nth);
	run(dx, dual ? ft_dual_mul_mat_t : ft_mul_mat_t, (float)s, nth);
	double m, n;
	for (int64_t t = 0; t < x->ne[1]; t++) {
		for (int64_t o = 0; o < w->ne[1]; o++) {
			double sum = 0, abs = 0;
			for (int64_t i = 0; i < w->ne[0]; i++) {
				const double v = (at(w, i, o) + delta(f, i, o, s, &m, &n)) * at(x, i, t);
				sum += v, abs += fabs(v);
			}
			expect("y", at(y, o, t), sum, abs);
		}
		for (int64_t i = 0; i < w->ne[0]; i++) {
			double sum = 0, abs = 0;
			for (int64_t o = 0; o < w->ne[1]; o++) {
				const double v = (at(w, i, o) + delta(f, i, o, s, &m, &n)) * at(dy, o, t);
				sum += v, abs += fabs(v);
			}
			expect("dx", at(dx, i, t), sum, abs);
		}
	}
	drop(y), drop(dx);
}

static void check_grads(tensor x, tensor dy, tensor *f, int nth) {
	const int64_t n_in = x->ne[0], n_out = dy->ne[0], r1 = f[0]->ne[1], r2 = f[2]->ne[1], ranks = r1 + r2;
	tensor shares = new_tensor(F32, ft_dual_parts(n_in, n_out, ranks) * n_in * ranks + n_out * ranks, 1);
	tensor all = new_tensor(F32, (n_in + n_out) * ranks, 1);
	shares->src[0] = x, shares->src[1] = dy, all->src[0] = shares;
	for (int i = 0; i < 4; i++) shares->src[2 + i] = all->src[1 + i] = f[i];
	run(shares, ft_dual_grads, 0.5f, nth);
	run(all, ft_dual_sum, 0, nth);
	double *want = calloc((size_t)((n_in + n_out) * ranks), sizeof *want), *abs = calloc((size_t)((n_in + n_out) * ranks), sizeof *abs);
	const int64_t off[4] = { 0, r1 * n_in, r1 * (n_in + n_out), r1 * (n_in + n_out) + r2 * n_in };
	for (int64_t o = 0; o < n_out; o++)
		for (int64_t i = 0; i < n_in; i++) {
			double g = 0, ga = 0, m, n, term;
			for (int64_t t = 0; t < x->ne[1]; t++) g += at(x, i, t) * at(dy, o, t), ga += fabs(at(x, i, t) * at(dy, o, t));
			delta(f, i, o, 0.5, &m, &n);
			const double relu = m > 0 ? m : 0, dm = m >= 0 ? 0.5 * (n > 0 ? g : -g) : 0, dn = 0.5 * g * relu;
			const double dma = m >= 0 ? 0.5 * ga : 0, dna = 0.5 * ga * relu;
#define ADD(index, v, d, da) (term = (v), want[index] += term * (d), abs[index] += fabs(term) * (da))
			for (int64_t r = 0; r < r1; r++) {
				ADD(off[0] + r * n_in + i, at(f[1], r, o), dm, dma);
				ADD(off[1] + o * r1 + r, at(f[0], i, r), dm, dma);
			}
			for (int64_t r = 0; r < r2; r++) {
				ADD(off[2] + r * n_in + i, at(f[3], r, o), dn, dna);
				ADD(off[3] + o * r2 + r, at(f[2], i, r), dn, dna);
			}
#undef ADD
		}
	for (int64_t i = 0; i < (n_in + n_out) * ranks; i++) expect("factor gradient", at(all, i, 0), want[i], abs[i]);
	free(want), free(abs), drop(shares), drop(all);
}

static void check_rows(int64_t n, int nth) {
	enum { ROWS = 5 };
	tensor x = new_tensor(F32, n, ROWS), u = new_tensor(F32, n, ROWS), dy = new_tensor(F32, n, ROWS), wide = new_tensor(F32, 2 * n, ROWS);
	tensor dx = new_tensor(F32, n, ROWS), both = new_tensor(F32, n, 2 * ROWS), dwide = new_tensor(F32, 2 * n, ROWS);
	dx->src[0] = both->src[0] = x, dx->src[1] = dy, both->src[1] = u, both->src[2] = dy, dwide->src[0] = wide, dwide->src[1] = dy;
	run(dx, ft_rms_norm_back, 1e-2f, nth);
	for (int64_t r = 0; r < ROWS; r++) {
		double square = 0, dot = 0;
		for (int64_t i = 0; i < n; i++) square += at(x, i, r) * at(x, i, r), dot += at(x, i, r) * at(dy, i, r);
		const double r2 = square / (double)n + (double)1e-2f;
		for (int64_t i = 0; i < n; i++)
			expect("rms_norm_back", at(dx, i, r), (at(dy, i, r) - at(x, i, r) * dot / ((double)n * r2)) / sqrt(r2), 1 + 10 / sqrt(r2));
	}
	run(dx, ft_soft_max_back, 0.25f, nth);
	for (int64_t r = 0; r < ROWS; r++) {
		double dot = 0;
		for (int64_t i = 0; i < n; i++) dot += at(x, i, r) * at(dy, i, r);
		for (int64_t i = 0; i < n; i++) expect("soft_max_back", at(dx, i, r), 0.25 * at(x, i, r) * (at(dy, i, r) - dot), (double)n);
	}
	run(both, ft_swiglu_back, 0, nth);
	run(dwide, ft_swiglu_back_fused, 1, nth);
	for (int64_t r = 0; r < ROWS; r++)
		for (int64_t i = 0; i < n; i++) {
			double g = at(x, i, r), s = 1 / (1 + exp(-g));
			expect("dg", at(both, i, r), at(dy, i, r) * at(u, i, r) * s * (1 + g * (1 - s)), 1);
			expect("du", at(both, i, ROWS + r), at(dy, i, r) * g * s, 1);
			g = at(wide, n + i, r), s = 1 / (1 + exp(-g));
			expect("swapped dg", at(dwide, n + i, r), at(dy, i, r) * at(wide, i, r) * s * (1 + g * (1 - s)), 1);
			expect("swapped du", at(dwide, i, r), at(dy, i, r) * g * s, 1);
		}
	drop(x), drop(u), drop(dy), drop(wide), drop(dx), drop(both), drop(dwide);
}

static void check_cross_entropy(int64_t n, int nth) {
	enum { ROWS = 3 };
	tensor x = new_tensor(F32, n, ROWS), d = new_tensor(F32, n, ROWS), targets = new_tensor(F32, ROWS, 1), weights = new_tensor(F32, ROWS, 1), nll = new_tensor(F32, ROWS, 1);
	d->src[0] = x, d->src[1] = targets, d->src[2] = weights, d->src[3] = nll;
	for (int r = 0; r < ROWS; r++) ((int32_t *)targets->data)[r] = draw((int)n), ((float *)weights->data)[r] = (float)r;
	run(d, ft_cross_entropy, 0, nth);
	for (int64_t r = 0; r < ROWS; r++) {
		const int32_t target = ((int32_t *)targets->data)[r];
		double z = 0;
		for (int64_t i = 0; i < n; i++) z += exp(at(x, i, r));
		expect("nll", at(nll, r, 0), r ? log(z) - at(x, target, r) : 0, 10);
		for (int64_t i = 0; i < n; i++) expect("dlogits", at(d, i, r), (double)r * (exp(at(x, i, r)) / z - (i == target)), (double)r);
	}
	drop(x), drop(d), drop(targets), drop(weights), drop(nll);
}

static void check_totals(int64_t n, int nth) {
	enum { ROWS = 300, TABLE = 4 };
	tensor total = new_tensor(F32, n, 1), table = new_tensor(F32, n, TABLE), a = new_tensor(F32, n, ROWS), b = new_tensor(F32, n, ROWS), ids = new_tensor(F32, ROWS, 1);
	double *want = calloc((size_t)n * (1 + TABLE), sizeof *want);
	for (int64_t i = 0; i < n; i++) {
		want[i] = at(total, i, 0);
		for (int r = 0; r < TABLE; r++) want[(1 + r) * n + i] = at(table, i, r);
	}
	for (int r = 0; r < ROWS; r++) {
		const int32_t id = ((int32_t *)ids->data)[r] = draw(TABLE);
		for (int64_t i = 0; i < n; i++) want[i] += at(a, i, r) * at(b, i, r) + at(a, i, r), want[(1 + id) * n + i] += at(a, i, r);
	}
	total->src[0] = total, total->src[1] = a, total->src[2] = b;
	run(total, ft_add_sums, 0, nth);
	total->src[2] = NULL;
	run(total, ft_add_sums, 0, nth);
	table->src[0] = table, table->src[1] = a, table->src[2] = ids;
	run(table, ft_add_rows, 0, nth);
	for (int64_t i = 0; i < n; i++) {
		expect("sum", at(total, i, 0), want[i], ROWS);
		for (int r = 0; r < TABLE; r++) expect("table", at(table, i, r), want[(1 + r) * n + i], ROWS);
	}
	free(want), drop(total), drop(table), drop(a), drop(b), drop(ids);
}

int main(void) {
	static const char *sets[] = { "avx512", "avx2", "neon", "portable" };
	static const int64_t sizes[][5] = { // n_in, n_out, N, r1, r2
		{ 1, 1, 1, 1, 1 }, { 5, 33, 2, 1, 3 }, { 32, 7, 15, 4, 4 }, { 172, 17, 13, 2, 1 }, { 352, 35, 29, 3, 5 }, { 33, 530, 7, 1, 1 },
		{ 544, 19, 3, 4, 2 }, { 19, 21, 1030, 1, 2 }, { 330, 16, 9, 9, 4 },
	};
	for (size_t v = 0; v < sizeof sets / sizeof *sets; v++) {
		if (!ft_use_simd(sets[v])) continue;
		printf("%s\n", sets[v]);
		for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++)
			for (int nth = 1; nth <= 3; nth++)
				for (int type = F32; type <= Q8; type += Q8) {
					const int64_t n_in = sizes[c][0], n_out = sizes[c][1], n = sizes[c][2];
					if (type == Q8 && n_in % BLOCK) continue;
					tensor w = new_tensor(type, n_in, n_out), x = new_tensor(F32, n_in, n), dy = new_tensor(F32, n_out, n);
					tensor f[4] = { new_tensor(F32, n_in, sizes[c][3]), new_tensor(F32, sizes[c][3], n_out), new_tensor(F32, n_in, sizes[c][4]), new_tensor(F32, sizes[c][4], n_out) };
					check_products(w, x, dy, f, false, nth);
					check_products(w, x, dy, f, true, nth);
					check_grads(x, dy, f, nth);
					drop(w), drop(x), drop(dy);
					for (int i = 0; i < 4; i++) drop(f[i]);
				}
		for (int64_t n = 1; n < 1100; n = n * 3 + 1)
			for (int nth = 1; nth <= 3; nth++) check_rows(n, nth), check_cross_entropy(n, nth), check_totals(n, nth);
	}
	if (failures) fprintf(stderr, "%d values are wrong\n", failures);
	return failures != 0;
}
