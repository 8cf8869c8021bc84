// Operands whose rows lie gigabytes apart, and results of more than 2^31 elements, of which only the last thread of many
// computes its share: what an index of 32 bits would miss. All of it is address space, hardly any of it memory.
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N_IN = 37, N_OUT = 4, TOKENS = 4, RANK = 2 };

static const size_t far = (size_t)3 << 29; // bytes between rows: the third is beyond 2^31 bytes, the fourth beyond 2^32

static void check_far_weight(tensor w, tensor a, tensor b) {
	double *wv = dense(w), *av = dense(a), *bv = dense(b);
	struct sum plain = { .parts = { w }, .want = want_like(w) };
	struct sum lora = { .parts = { w, a, b }, .want = want_like(w) }, dual = { .parts = { w, a, b, a, b }, .want = want_like(w) };
	for (int64_t i = 0; i < plain.want.n; i++) {
		double m = 0;
		for (int64_t k = 0; k < RANK; k++) m += bv[i / N_IN * RANK + k] * av[k * N_IN + i % N_IN];
		add_term(&plain.want, i, wv[i]), add_term(&lora.want, i, wv[i]), add_term(&dual.want, i, wv[i]);
		add_term(&lora.want, i, m), add_term(&dual.want, i, m > 0 ? m : 0); // sign(N) of the same factors is 1 where M > 0
	}
	check_products("far mul", &plain, TOKENS, ft_weight_mul, ft_weight_mul_t, 0);
	check_products("far lora", &lora, TOKENS, ft_lora_mul, ft_lora_mul_t, 1);
	check_products("far dual", &dual, TOKENS, ft_dual_mul, ft_dual_mul_t, 1);
	drop_want(plain.want), drop_want(lora.want), drop_want(dual.want), free(wv), free(av), free(bv);
}

// With the same factors twice, dM = dN = dy·xᵀ where M > 0 for M = 1: the sums of the columns of G, r times.
static void check_far_grads(tensor x, tensor dy) {
	tensor a = new_tensor(F32, N_IN, 1), b = new_tensor(F32, 1, N_OUT);
	for (int i = 0; i < N_IN; i++) ((float *)a->data)[i] = 1;
	for (int i = 0; i < N_OUT; i++) ((float *)b->data)[i] = 1;
	tensor shares = new_result(ft_dual_parts(N_IN, N_OUT, 2) * N_IN * 2 + N_OUT * 2, 1, 1, 1), dual = new_result((N_IN + N_OUT) * 2, 1, 1, 1);
	tensor inner = new_result(4, TOKENS, 2, 1), lora = new_result(N_IN + N_OUT, 1, 1, 1);
	const tensor factors[] = { a, b, a, b };
	shares->src[0] = inner->src[0] = lora->src[1] = x, shares->src[1] = inner->src[1] = lora->src[2] = dy, dual->src[0] = shares, lora->src[0] = inner;
	for (int i = 0; i < 4; i++) shares->src[2 + i] = dual->src[1 + i] = factors[i];
	inner->src[2] = lora->src[3] = a, inner->src[3] = lora->src[4] = b;
	struct want wd = want_like(dual), wl = want_like(lora);
	for (int64_t o = 0; o < N_OUT; o++)
		for (int64_t i = 0; i < N_IN; i++)
			for (int64_t t = 0; t < TOKENS; t++) {
				const double g = at(x, i, t, 0, 0) * at(dy, o, t, 0, 0);
				add_term(&wl, i, g), add_term(&wl, N_IN + o, g);
				for (int half = 0; half < 2; half++) add_term(&wd, half * (N_IN + N_OUT) + i, g), add_term(&wd, half * (N_IN + N_OUT) + N_IN + o, g);
			}
	check_nodes("far dual", (struct node[]){ { shares, ft_dual_grads, 1, NULL }, { dual, ft_dual_sum, 0, NULL } }, 2, &(struct result){ "grads", dual, wd }, 1);
	check_nodes("far lora", (struct node[]){ { inner, ft_lora_inner, 1, NULL }, { lora, ft_lora_outer, 0, NULL } }, 2, &(struct result){ "grads", lora, wl }, 1);
	drop(a), drop(b), drop(shares), drop(dual), drop(inner), drop(lora), drop_want(wd), drop_want(wl);
}

// a [N_IN, N_OUT] and b [N_IN, TOKENS], two heads each, in the layouts in which rows, columns or heads lie far apart.
static void check_far_heads(const size_t nb[4]) {
	tensor a = new_far(nb, N_IN, N_OUT, 2, 1), b = new_far(nb, N_IN, TOKENS, 2, 1), y = new_result(N_OUT, TOKENS, 2, 1);
	if (a && b) {
		struct want w = want_like(y);
		for (int64_t h = 0; h < 2; h++)
			for (int64_t m = 0; m < TOKENS; m++)
				for (int64_t n = 0; n < N_OUT; n++)
					for (int64_t k = 0; k < N_IN; k++) add_term(&w, (h * TOKENS + m) * N_OUT + n, at(a, k, n, h, 0) * at(b, k, m, h, 0));
		y->src[0] = a, y->src[1] = b;
		check_nodes("far batch", &(struct node){ y, ft_batch_mul, 0, NULL }, 1, &(struct result){ "y", y, w }, 1);
		drop_want(w);
	}
	drop_far(a), drop_far(b), drop(y);
}

static bool check_strides(void) {
	const size_t rows[4] = { 4, far, 4 * far, 4 * far };
	tensor w = new_far(rows, N_IN, N_OUT, 1, 1), x = new_far(rows, N_IN, TOKENS, 1, 1), dy = new_far(rows, N_OUT, TOKENS, 1, 1);
	tensor a = new_tensor(F32, N_IN, RANK), b = new_tensor(F32, RANK, N_OUT);
	const bool space = w && x && dy;
	if (space) {
		check_far_weight(w, a, b);
		check_far_grads(x, dy);
		check_far_heads((const size_t[4]){ 4, far, 4 * N_IN, 4 * far });
		check_far_heads((const size_t[4]){ far / 8, 4, 4 * TOKENS, 4 * far });
		check_far_heads((const size_t[4]){ 4, 4 * N_IN, 3 * far, 6 * far });
	}
	drop_far(w), drop_far(x), drop_far(dy), drop(a), drop(b);
	return space;
}

static void expect_one(const char *what, double got, double want) {
	double abs = fabs(want);
	expect(what, "the last", &(float){ (float)got }, (struct want){ 1, &want, &abs });
}

// The last share of a result, and in it the last rows' last elements, each the product of one element of both operands.
static bool check_large_product(const char *what, ft_kernel kernel, int64_t n0, int64_t n1, int64_t n2, int nth, tensor left, tensor right) {
	tensor y = new_large(n0, n1, n2, 1);
	if (!y) return false;
	y->src[0] = left, y->src[1] = right;
	for (const char **set = instruction_sets; *set; set++) {
		if (!ft_use_simd(*set)) continue;
		compute_share(&(struct node){ y, kernel, 0, NULL }, nth - 1, nth);
		for (int64_t i = n0 - 3; i < n0; i++)
			for (int64_t t = n1 - 2; t < n1; t++) {
				const double l = ((const float *)left->data)[i], r = ((const float *)right->data)[t];
				expect_one(what, at(y, i, t, n2 - 1, 0), l * r);
			}
	}
	drop_far(y);
	return true;
}

// Rows of a result whose operands' rows all lie in the same place: the last thread's row.
static bool check_large_rows(int64_t n, int64_t rows) {
	tensor x = new_tensor(F32, n, 1), both = new_large(n, rows, 2, 1), d = new_large(n, 2 * rows, 1, 1);
	tensor indices = new_large(2 * rows, 1, 1, 1), weights = new_large(2 * rows, 1, 1, 1), nll = new_large(2 * rows, 1, 1, 1);
	const bool space = both && d && indices && weights && nll;
	for (const char **set = instruction_sets; space && *set; set++) {
		if (!ft_use_simd(*set)) continue;
		x->ne[1] = rows, x->nb[1] = 0;
		both->src[0] = both->src[1] = both->src[2] = x;
		compute_share(&(struct node){ both, ft_swiglu_back, 0, NULL }, (int)rows - 1, (int)rows);
		x->ne[1] = 2 * rows;
		((float *)weights->data)[2 * rows - 1] = 1;
		d->src[0] = x, d->src[1] = indices, d->src[2] = weights, d->src[3] = nll;
		compute_share(&(struct node){ d, ft_cross_entropy, 0, NULL }, (int)(2 * rows) - 1, (int)(2 * rows));
		double z = 0;
		for (int64_t i = 0; i < n; i++) z += exp(at(x, i, 0, 0, 0));
		const double v = at(x, n - 1, 0, 0, 0), s = 1 / (1 + exp(-v));
		expect_one("large rows of du", at(both, n - 1, rows - 1, 1, 0), v * v * s);
		expect_one("large rows of dlogits", at(d, n - 1, 2 * rows - 1, 0, 0), exp(v) / z);
	}
	drop(x), drop_far(both), drop_far(d), drop_far(indices), drop_far(weights), drop_far(nll);
	return space;
}

static bool check_results(void) {
	enum { N = 50000, HALF = N / 2, SHARES = 4096 }; // N·N > 2^31
	tensor row = new_tensor(F32, N, 1), column = new_tensor(F32, 1, N);
	bool space = check_large_product("large mul", ft_weight_mul, N, N, 1, SHARES, column, column);
	space &= check_large_product("large mul, transposed", ft_weight_mul_t, N, N, 1, SHARES, row, column);
	column->ne[2] = 2, column->nb[2] = 0; // two heads in the same place
	tensor wide = new_tensor(F32, 1, N);
	wide->ne[2] = 2, wide->nb[2] = 0;
	space &= check_large_product("large batch", ft_batch_mul, N, N, 2, SHARES, wide, column);
	drop(row), drop(column), drop(wide);
	return check_large_rows(N, HALF) && space;
}

void check_far(void) {
	const bool strides = check_strides(), results = check_results();
	if (!strides || !results) printf("  skipped: parts of far, for the system gives no address space of some gigabytes\n");
}
