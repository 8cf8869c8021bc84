// y = S·x and dx = Sᵀ·dy, and first of all for S = W.
#include "check.h"

#include <math.h>
#include <stdlib.h>

static struct want want_product(const struct want *s, bool transposed, const double *x, int64_t n_in, int64_t n_out, int64_t tokens) {
	const int64_t rows = transposed ? n_in : n_out, steps = transposed ? n_out : n_in;
	struct want w = new_want(rows * tokens);
	for (int64_t t = 0; t < tokens; t++)
		for (int64_t i = 0; i < rows; i++)
			for (int64_t k = 0; k < steps; k++) {
				const int64_t e = transposed ? k * n_in + i : i * n_in + k;
				w.sum[t * rows + i] += s->sum[e] * x[t * steps + k];
				w.abs[t * rows + i] += s->abs[e] * fabs(x[t * steps + k]);
			}
	return w;
}

static void check_product(const char *what, const struct sum *s, bool transposed, int64_t tokens, ft_kernel kernel, float scale) {
	const int64_t n_in = s->parts[0]->ne[0], n_out = s->parts[0]->ne[1];
	tensor x = new_rows(F32, transposed ? n_out : n_in, tokens, draw(2) * 5);
	tensor y = new_result(transposed ? n_in : n_out, tokens, 1, 1);
	y->src[0] = s->parts[0], y->src[1] = x;
	for (int i = 1; i < 5; i++) y->src[1 + i] = s->parts[i];
	double *values = dense(x);
	const struct result result = { transposed ? "dx" : "y", y, want_product(&s->want, transposed, values, n_in, n_out, tokens) };
	check_nodes(what, &(struct node){ y, kernel, scale, NULL }, 1, &result, 1);
	drop_want(result.want), drop(x), drop(y), free(values);
}

void check_products(const char *what, const struct sum *s, int64_t tokens, ft_kernel forward, ft_kernel backward, float scale) {
	check_product(what, s, false, tokens, forward, scale);
	check_product(what, s, true, tokens, backward, scale);
}

void check_weight(void) {
	// Around the tiles (6 and 14 rows; 8, 16 and 32 columns) and the blocks (320 steps; 256 and 512 columns).
	static const int64_t sizes[][3] = { // n_in, n_out, tokens
		{ 1, 1, 1 }, { 5, 33, 2 }, { 32, 7, 15 }, { 172, 17, 13 }, { 352, 35, 29 }, { 33, 530, 7 }, { 544, 19, 3 }, { 19, 21, 331 },
		{ 321, 1, 14 }, { 1, 70, 28 }, { 96, 47, 1 }, { 1056, 5, 6 }, { 320, 520, 2 }, { 544, 320, 2 },
	};
	static const int types[] = { F32, F16, Q8 };
	for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++)
		for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
			const int64_t n_in = sizes[c][0], n_out = sizes[c][1], tokens = sizes[c][2];
			if (types[k] == Q8 && n_in % BLOCK) continue;
			struct sum s = { .parts = { new_rows(types[k], n_in, n_out, c % 2) } };
			s.want = want_like(s.parts[0]);
			double *w = dense(s.parts[0]);
			for (int64_t i = 0; i < s.want.n; i++) add_term(&s.want, i, w[i]);
			check_products(label("weight type %d, %lldx%lldx%lld", types[k], (long long)n_in, (long long)n_out, (long long)tokens),
				&s, tokens, ft_weight_mul, ft_weight_mul_t, 0);
			drop_want(s.want), drop(s.parts[0]), free(w);
		}
}
