// dA and dB of a magnitude of one rank from x [n_in, N] and dy [n_out, N] in 8 bits. What was rounded is read back from the
// layout and held against x and dy; the gradients are held against those of what was rounded.
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const float scale = 0.5f;

// A float32 division, a product and the rounding to whole steps take a value up to this much further than half a step.
static const double half_step = 0.5 + 1e-4;

struct bytes_case { tensor x, dy, a, b, c, d, by, quantized, shares, all; };

// Tokens differ by powers of two up to 2^14, of x and of dy; one has no derivatives; one column is zero.
static tensor new_tokens(int64_t n, int64_t tokens, int seed) {
	tensor t = new_tensor(F32, n, tokens);
	for (int64_t k = 0; k < tokens; k++)
		for (int64_t i = 0; i < n; i++) {
			float *v = (float *)t->data + k * n + i;
			*v = ldexpf(*v, (int)((k * seed) % 15) - 7);
			if ((seed == 7 && k == 3) || i == 4) *v = 0;
		}
	return t;
}

static struct bytes_case new_case(int64_t n_in, int64_t n_out, int64_t tokens, int64_t r) {
	struct bytes_case c = { new_tokens(n_in, tokens, 5), new_tokens(n_out, tokens, 7), new_tensor(F32, n_in, 1), new_tensor(F32, 1, n_out),
		new_tensor(F32, n_in, r), new_tensor(F32, r, n_out), new_result(tokens, 2, 1, 1), new_result(ft_quantized_floats(n_in, n_out, tokens), 1, 1, 1),
		new_result(ft_dual_parts(n_in, n_out, 1) * n_in + n_out, 1, 1, 1), new_result(n_in + n_out, 1, 1, 1) };
	c.by->src[0] = c.quantized->src[0] = c.x, c.by->src[1] = c.quantized->src[1] = c.dy, c.quantized->src[2] = c.shares->src[1] = c.by;
	c.shares->src[0] = c.quantized, c.shares->src[2] = c.all->src[1] = c.a, c.shares->src[3] = c.all->src[2] = c.b;
	c.shares->src[4] = c.c, c.shares->src[5] = c.d, c.all->src[0] = c.shares;
	return c;
}

static void drop_case(struct bytes_case c) {
	tensor all[] = { c.x, c.dy, c.a, c.b, c.c, c.d, c.by, c.quantized, c.shares, c.all };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(all[i]);
}

static void compute_case(const struct bytes_case *c, int nth) {
	const struct node nodes[] = { { c->by, ft_balance, 0, NULL }, { c->quantized, ft_quantize, 0, NULL }, { c->shares, ft_byte_grads, scale, NULL },
		{ c->all, ft_thin_sum, 0, NULL } };
	for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
		memset(nodes[i].dst->data, 0xff, (size_t)elements(nodes[i].dst) * 4);
		compute_node(&nodes[i], nth);
	}
}

// The values that columns [0, n) have after rounding: `tile` columns of each panel count, at words `width` apart.
static double *rounded(const char *what, const struct ggml_tensor *t, const float *by, const uint32_t *words, const float *scales, int64_t tile,
	int64_t width, bool x) {
	const int64_t n = t->ne[0], tokens = t->ne[1], quads = (tokens + 3) / 4, blocks = (tokens + FT_BYTE_BLOCK - 1) / FT_BYTE_BLOCK;
	double *out = calloc((size_t)(n * tokens), sizeof *out);
	for (int64_t i = 0; i < n; i++)
		for (int64_t k = 0; k < tokens; k++) {
			const int64_t panel = i / tile, lane = i % tile;
			const uint32_t byte = words[(panel * quads + k / 4) * width + lane] >> 8 * (k % 4) & 255;
			const double step = scales[(panel * blocks + k / FT_BYTE_BLOCK) * width + lane], value = at(t, i, k, 0, 0) * (double)by[k];
			const int offset = x && strcmp(ft_best_simd()->name, "neon") != 0 ? 128 : 0;
			out[k * n + i] = step * (offset ? (int)byte - offset : (int8_t)byte);
			if (!(fabs(out[k * n + i] - value) <= half_step * step)) fail("%s: %s[%lld, %lld] = %g, rounded to %g by steps of %g", what, x ? "x" : "dy", (long long)i, (long long)k, value, out[k * n + i], step);
		}
	compared += n * tokens;
	return out;
}

// dA, then dB, of what was rounded.
static struct want want_magnitude(const struct bytes_case *c, const double *x, const double *dy) {
	const int64_t n_in = c->x->ne[0], n_out = c->dy->ne[0], tokens = c->x->ne[1], r = c->c->ne[1];
	struct want w = new_want(n_in + n_out);
	for (int64_t o = 0; o < n_out; o++)
		for (int64_t i = 0; i < n_in; i++) {
			double g = 0, abs = 0, n = 0;
			for (int64_t t = 0; t < tokens; t++) g += x[t * n_in + i] * dy[t * n_out + o], abs += fabs(x[t * n_in + i] * dy[t * n_out + o]);
			for (int64_t k = 0; k < r; k++) n += at(c->c, i, k, 0, 0) * at(c->d, k, o, 0, 0);
			const double a = at(c->a, i, 0, 0, 0), b = at(c->b, 0, o, 0, 0), dm = a * b >= 0 ? scale * (n > 0 ? g : -g) : 0, bound = a * b >= 0 ? scale * abs : 0;
			w.sum[i] += b * dm, w.abs[i] += fabs(b) * bound;
			w.sum[n_in + o] += a * dm, w.abs[n_in + o] += fabs(a) * bound;
		}
	return w;
}

static void check_case(const char *what, int64_t n_in, int64_t n_out, int64_t tokens, int64_t r) {
	struct bytes_case c = new_case(n_in, n_out, tokens, r);
	compute_case(&c, 1);
	const struct ft_quantized q = ft_quantized_at(c.quantized->data, n_in, n_out, tokens);
	const float *by = c.by->data;
	double *x = rounded(what, c.x, by, q.x, q.x_scale, ft_best_simd()->nr, ft_best_simd()->nr, true);
	double *dy = rounded(what, c.dy, by + tokens, q.dy, q.dy_scale, ft_best_simd()->mr, ft_best_bytes()->width, false);
	struct want want = want_magnitude(&c, x, dy);
	expect(what, "gradients in 8 bits", c.all->data, want);
	float *kept = malloc((size_t)elements(c.all) * 4);
	memcpy(kept, c.all->data, (size_t)elements(c.all) * 4);
	spoil_scratch();
	compute_case(&c, 3);
	if (memcmp(kept, c.all->data, (size_t)elements(c.all) * 4) != 0) fail("%s: not the same with three threads and other scratch memory", what);
	// What is no number must come out as none.
	for (int side = 0; side < 2; side++)
		for (int inf = 0; inf < 2; inf++) {
			float *v = (float *)(side ? c.dy : c.x)->data, before = v[0];
			v[0] = inf ? INFINITY : NAN;
			compute_case(&c, 1);
			int none = 0;
			for (int64_t i = 0; i < n_in + n_out; i++) none += !isfinite(((float *)c.all->data)[i]);
			if (none == 0) fail("%s: %s of %s is lost", what, inf ? "the infinity" : "the NaN", side ? "dy" : "x");
			v[0] = before;
		}
	free(kept), free(x), free(dy), drop_want(want), drop_case(c);
}

void check_bytes(void) {
	// Beside tiles of 14×32 and 6×16, 256 tokens of a block, 768 columns at a time.
	static const int64_t sizes[][4] = { { 1, 1, 1, 1 }, { 5, 33, 2, 3 }, { 32, 14, 4, 2 }, { 172, 70, 300, 3 }, { 33, 530, 7, 1 }, { 1601, 15, 3, 3 }, { 19, 21, 1030, 2 }, { 800, 45, 257, 7 } };
	for (const char **set = instruction_sets; *set; set++) {
		if (!ft_use_simd(*set) || !ft_best_bytes()) continue;
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			const int64_t *s = sizes[i];
			drain_scratch();
			check_case(label("bytes %s %lldx%lldx%lld r%lld", *set, (long long)s[0], (long long)s[1], (long long)s[2], (long long)s[3]), s[0], s[1], s[2], s[3]);
		}
	}
}
