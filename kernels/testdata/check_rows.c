// The derivatives that go by rows. Each operand has its own distance between rows.
#include "check.h"

#include <math.h>
#include <stdlib.h>

enum { ROWS = 5 };

static void check_norm(const char *what, tensor x, tensor dy) {
	const float eps = 1e-2f;
	const int64_t n = x->ne[0];
	tensor dx = new_result(n, ROWS, 1, 1);
	struct want w = want_like(dx);
	for (int64_t r = 0; r < ROWS; r++) {
		double square = 0, dot = 0, abs = 0;
		for (int64_t i = 0; i < n; i++) {
			const double xi = at(x, i, r, 0, 0), di = at(dy, i, r, 0, 0);
			square += xi * xi, dot += xi * di, abs += fabs(xi * di);
		}
		const double r2 = square / (double)n + (double)eps;
		for (int64_t i = 0; i < n; i++) {
			const double xi = at(x, i, r, 0, 0), di = at(dy, i, r, 0, 0);
			set_want(&w, r * n + i, (di - xi * dot / ((double)n * r2)) / sqrt(r2), (fabs(di) + fabs(xi) * abs / ((double)n * r2)) / sqrt(r2));
		}
	}
	dx->src[0] = x, dx->src[1] = dy;
	check_nodes(what, &(struct node){ dx, ft_rms_norm_back, eps, NULL }, 1, &(struct result){ "norm dx", dx, w }, 1);
	drop(dx), drop_want(w);
}

// The norm with its weight, forward and back.
static void check_norm_mul(const char *what, tensor x, tensor weight, tensor dy) {
	const float eps = 1e-2f;
	const int64_t n = x->ne[0];
	tensor y = new_result(n, ROWS, 1, 1), dx = new_result(n, ROWS, 1, 1);
	struct want wy = want_like(y), wdx = want_like(dx);
	for (int64_t r = 0; r < ROWS; r++) {
		double square = 0, dot = 0, abs = 0;
		for (int64_t i = 0; i < n; i++) {
			const double xi = at(x, i, r, 0, 0), g = at(dy, i, r, 0, 0) * at(weight, i, 0, 0, 0);
			square += xi * xi, dot += xi * g, abs += fabs(xi * g);
		}
		const double r2 = square / (double)n + (double)eps;
		for (int64_t i = 0; i < n; i++) {
			const double xi = at(x, i, r, 0, 0), wi = at(weight, i, 0, 0, 0), g = at(dy, i, r, 0, 0) * wi;
			set_want(&wy, r * n + i, wi * xi / sqrt(r2), fabs(wi * xi) / sqrt(r2));
			set_want(&wdx, r * n + i, (g - xi * dot / ((double)n * r2)) / sqrt(r2), (fabs(g) + fabs(xi) * abs / ((double)n * r2)) / sqrt(r2));
		}
	}
	y->src[0] = dx->src[0] = x, y->src[1] = dx->src[2] = weight, dx->src[1] = dy;
	check_nodes(what, &(struct node){ y, ft_rms_norm_mul, eps, NULL }, 1, &(struct result){ "norm with weight", y, wy }, 1);
	check_nodes(what, &(struct node){ dx, ft_rms_norm_back, eps, NULL }, 1, &(struct result){ "norm with weight, dx", dx, wdx }, 1);
	drop(y), drop(dx), drop_want(wy), drop_want(wdx);
}

// The norm that takes the mean off, with its weight and, where that is NULL, without; forward and back.
static void check_layer_norm(const char *what, tensor x, tensor weight, tensor dy) {
	const float eps = 1e-2f;
	const int64_t n = x->ne[0];
	tensor y = new_result(n, ROWS, 1, 1), dx = new_result(n, ROWS, 1, 1);
	struct want wy = want_like(y), wdx = want_like(dx);
	for (int64_t r = 0; r < ROWS; r++) {
		double mean = 0, mean_abs = 0, square = 0, sum = 0, dot = 0, sum_abs = 0, dot_abs = 0;
		for (int64_t i = 0; i < n; i++) mean += at(x, i, r, 0, 0) / (double)n, mean_abs += fabs(at(x, i, r, 0, 0)) / (double)n;
		for (int64_t i = 0; i < n; i++) {
			const double h = at(x, i, r, 0, 0) - mean, g = at(dy, i, r, 0, 0) * (weight ? at(weight, i, 0, 0, 0) : 1);
			square += h * h / (double)n, sum += g / (double)n, dot += g * h / (double)n;
			sum_abs += fabs(g) / (double)n, dot_abs += fabs(g * h) / (double)n;
		}
		const double root = sqrt(square + (double)eps);
		for (int64_t i = 0; i < n; i++) {
			const double xi = at(x, i, r, 0, 0), wi = weight ? at(weight, i, 0, 0, 0) : 1, g = at(dy, i, r, 0, 0) * wi, size = fabs(xi) + mean_abs;
			set_want(&wy, r * n + i, wi * (xi - mean) / root, fabs(wi) * size / root);
			set_want(&wdx, r * n + i, (g - sum - (xi - mean) * dot / (root * root)) / root, (fabs(g) + sum_abs + size * dot_abs / (root * root)) / root);
		}
	}
	y->src[0] = dx->src[0] = x, y->src[1] = dx->src[2] = weight, dx->src[1] = dy;
	if (weight) check_nodes(what, &(struct node){ y, ft_layer_norm_mul, eps, NULL }, 1, &(struct result){ "norm with mean", y, wy }, 1);
	check_nodes(what, &(struct node){ dx, ft_layer_norm_back, eps, NULL }, 1, &(struct result){ "norm with mean, dx", dx, wdx }, 1);
	drop(y), drop(dx), drop_want(wy), drop_want(wdx);
}

static void check_gelu(const char *what, tensor x, tensor dy) {
	const double a = 0.044715, k = 0.79788456080286541;
	const int64_t n = x->ne[0];
	tensor y = new_result(n, ROWS, 1, 1), dx = new_result(n, ROWS, 1, 1);
	struct want wy = want_like(y), w = want_like(dx);
	for (int64_t r = 0; r < ROWS; r++)
		for (int64_t i = 0; i < n; i++) {
			const double xi = at(x, i, r, 0, 0), di = at(dy, i, r, 0, 0), t = tanh(k * (xi + a * xi * xi * xi));
			set_want(&wy, r * n + i, xi / 2 * (1 + t), 1 + fabs(xi));
			set_want(&w, r * n + i, di * ((1 + t) / 2 + xi / 2 * (1 - t * t) * k * (1 + 3 * a * xi * xi)), fabs(di) * (1 + fabs(xi)));
		}
	y->src[0] = dx->src[0] = x, dx->src[1] = dy;
	check_nodes(what, &(struct node){ y, ft_gelu, 0, NULL }, 1, &(struct result){ "gelu", y, wy }, 1);
	check_nodes(what, &(struct node){ dx, ft_gelu_back, 0, NULL }, 1, &(struct result){ "gelu dx", dx, w }, 1);
	drop(y), drop(dx), drop_want(wy), drop_want(w);
}

// Rotations by a table of what ones became: pairs of neighbours or of halves, there and back.
static void check_rotate(int64_t n, int64_t d, int64_t heads, int64_t tokens, bool part) {
	const struct layout whole = { "plain", { 0, 1, 2, 3 }, 0 }, of_row = { "part of a row", { 0, 1, 2, 3 }, 5 };
	tensor x = new_view(part ? &of_row : &whole, n, heads, tokens, 1), table = new_result(d, 1, tokens, 1);
	for (int back = 0; back < 2; back++)
		for (int halves = 0; halves < 2; halves++) {
			tensor y = new_result(n, heads, tokens, 1);
			struct want w = want_like(y);
			const int64_t step = halves ? d / 2 : 1;
			for (int64_t t = 0; t < tokens; t++)
				for (int64_t h = 0; h < heads; h++)
					for (int64_t i = 0; i < n; i++) {
						const int64_t pair = halves ? i % (d / 2) : i / 2 * 2, to = (t * heads + h) * n + i;
						const double v = at(x, i, h, t, 0);
						if (i >= d) {
							set_want(&w, to, v, fabs(v));
							continue;
						}
						const double a = at(table, pair, 0, t, 0), b = at(table, pair + step, 0, t, 0), c = (a + b) / 2, s = (b - a) / 2 * (back ? -1 : 1);
						const double x0 = at(x, pair, h, t, 0), x1 = at(x, pair + step, h, t, 0);
						set_want(&w, to, i == pair ? x0 * c - x1 * s : x0 * s + x1 * c, (fabs(x0) + fabs(x1)) * (fabs(a) + fabs(b)));
					}
			y->src[0] = x, y->src[1] = table;
			ft_set_param(y, 1, (float)halves);
			check_nodes(label("rotation of %lld in %lld (halves %d, back %d)", (long long)d, (long long)n, halves, back),
				&(struct node){ y, ft_rotate, (float)back, NULL }, 1, &(struct result){ "y", y, w }, 1);
			drop(y), drop_want(w);
		}
	drop(x), drop(table);
}

static void check_soft_max(const char *what, tensor y, tensor dy) {
	const float scale = 0.25f;
	const int64_t n = y->ne[0];
	tensor dx = new_result(n, ROWS, 1, 1);
	struct want w = want_like(dx);
	for (int64_t r = 0; r < ROWS; r++) {
		double dot = 0, abs = 0;
		for (int64_t i = 0; i < n; i++) dot += at(y, i, r, 0, 0) * at(dy, i, r, 0, 0), abs += fabs(at(y, i, r, 0, 0) * at(dy, i, r, 0, 0));
		for (int64_t i = 0; i < n; i++) {
			const double yi = at(y, i, r, 0, 0), di = at(dy, i, r, 0, 0);
			set_want(&w, r * n + i, scale * yi * (di - dot), scale * fabs(yi) * (fabs(di) + abs));
		}
	}
	dx->src[0] = y, dx->src[1] = dy;
	check_nodes(what, &(struct node){ dx, ft_soft_max_back, scale, NULL }, 1, &(struct result){ "softmax dx", dx, w }, 1);
	drop(dx), drop_want(w);
}

// dg and du of silu(g)·u at places gi and ui of w.
static void want_swiglu(struct want *w, int64_t gi, int64_t ui, double g, double u, double dy) {
	const double s = 1 / (1 + exp(-g));
	set_want(w, gi, dy * u * s * (1 + g * (1 - s)), fabs(dy * u));
	set_want(w, ui, dy * g * s, fabs(dy * g));
}

static void check_swiglu(const char *what, tensor g, tensor u, tensor dy) {
	const int64_t n = g->ne[0];
	tensor both = new_result(n, ROWS, 2, 1);
	struct want w = want_like(both);
	for (int64_t r = 0; r < ROWS; r++)
		for (int64_t i = 0; i < n; i++)
			want_swiglu(&w, r * n + i, (ROWS + r) * n + i, at(g, i, r, 0, 0), at(u, i, r, 0, 0), at(dy, i, r, 0, 0));
	both->src[0] = g, both->src[1] = u, both->src[2] = dy;
	check_nodes(what, &(struct node){ both, ft_swiglu_back, 0, NULL }, 1, &(struct result){ "dg, du", both, w }, 1);
	drop(both), drop_want(w);
}

static void check_swiglu_fused(const char *what, tensor x, tensor dy, bool swapped) {
	const int64_t n = dy->ne[0], g = swapped ? n : 0, u = n - g;
	tensor dx = new_result(2 * n, ROWS, 1, 1);
	struct want w = want_like(dx);
	for (int64_t r = 0; r < ROWS; r++)
		for (int64_t i = 0; i < n; i++)
			want_swiglu(&w, r * 2 * n + g + i, r * 2 * n + u + i, at(x, g + i, r, 0, 0), at(x, u + i, r, 0, 0), at(dy, i, r, 0, 0));
	dx->src[0] = x, dx->src[1] = dy;
	check_nodes(what, &(struct node){ dx, ft_swiglu_back_fused, swapped, NULL }, 1, &(struct result){ swapped ? "du, dg fused" : "dg, du fused", dx, w }, 1);
	drop(dx), drop_want(w);
}

void check_rows(void) {
	for (int64_t n = 1; n < 1100; n = n * 3 + 1) {
		const char *what = label("rows of %lld", (long long)n);
		tensor x = new_rows(F32, n, ROWS, 1), u = new_rows(F32, n, ROWS, 0), dy = new_rows(F32, n, ROWS, 3), wide = new_rows(F32, 2 * n, ROWS, 2);
		tensor weight = new_rows(F32, n, 1, 0);
		check_norm(what, x, dy);
		check_norm_mul(what, x, weight, dy);
		check_layer_norm(what, x, weight, dy);
		check_layer_norm(what, x, NULL, dy);
		check_gelu(what, x, dy);
		drop(weight);
		check_soft_max(what, x, dy);
		check_swiglu(what, x, u, dy);
		check_swiglu_fused(what, wide, dy, false);
		check_swiglu_fused(what, wide, dy, true);
		drop(x), drop(u), drop(dy), drop(wide);
	}
	check_rotate(2, 2, 1, 1, false), check_rotate(10, 8, 3, 5, true), check_rotate(64, 64, 9, 7, false), check_rotate(80, 66, 2, 3, true);
}
