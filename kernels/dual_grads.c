#include "bytes.h"
#include "dual.h"
#include "gemm.h"
#include "thin.h"

#include <math.h>
#include <string.h>

// The gradients of A, B, C and D from x [n_in, N] and dy [n_out, N], with M = B·A, N = D·C and G[o][i] = Σ_t x[i,t]·dy[o,t]:
//
//   dM = s·G ⊙ sign(N) ⊙ [M ≥ 0]      dA = Bᵀ·dM    dB = dM·Aᵀ
//   dN = s·G ⊙ ReLU(M) ⊙ [|N| ≤ limit]  dC = Dᵀ·dN    dD = dN·Cᵀ
//
// or, for a magnitude of one rank, of dA and dB alone; thin.c has the others.
//
// G exists for STRIPS strips of MR rows and COLUMNS columns at a time and is used up at once. The rows are cut into parts,
// as many for any number of threads: a part owns its rows of dB and dD and sums its own share of dA and dC, and a second
// node adds the shares in order. So the result does not depend on the threads. All is linear in G: tokens are taken TOKENS
// at a time.
enum {
	PARTS = 24,
	SHARES = 4 << 20, // floats for all shares of dA and dC, as long as one part fits
	TOKENS = 1024,
	STRIPS = 8,
	COLUMNS = 768,
	STRIDE = COLUMNS + 16,
	NEAR = 256, // columns of G that stay in the first-level cache while they are used up
};

int64_t ft_dual_parts(int64_t n_in, int64_t n_out, int64_t ranks) {
	const int64_t fit = SHARES / (n_in * ranks), rows = (n_out + FT_MR_MAX - 1) / FT_MR_MAX;
	const int64_t most = ft_min(PARTS, ft_min(fit, rows));
	return most > 1 ? most : 1;
}

// The factors, contiguous: a [n_in, r1], b [r1, n_out], c [n_in, r2], d [r2, n_out].
struct factors {
	const float *a, *b, *c, *d;
	int64_t n_in, r1, r2;
	float s, limit;
	bool magnitude; // dA and dB only, r1 is 1
};

// What a thread works with: one range of columns [i0, i1) and tokens [t0, t1).
struct strip {
	const struct ft_simd *v;
	const struct ggml_tensor *x, *dy;
	struct factors f;
	const struct ft_quantized *bytes; // x and dy in 8 bits, in the place of `packed` and `steps`; NULL: in F32
	int64_t n_out, i0, i1, t0, t1;
	float *packed;              // x as panels [⌈(i1−i0)/NR⌉][t1−t0][NR]
	float *steps;               // dy of the rows from `first` up to `end` as strips [t1−t0][FT_AK], `apart` floats apart
	int64_t first, end, apart;
	float *g;                   // G of the same rows: [MR][STRIDE] for each strip
	float *dn;                  // [MR][STRIDE]
	float *a, *c, *da, *dc;     // [r][STRIDE]
	float *bt, *dt, *dbt, *ddt; // [r][FT_AK]
};

// Columns of x are contiguous in a row, so a panel is a copy.
static void pack_x(struct strip *s) {
	const int64_t n = s->i1 - s->i0, tokens = s->t1 - s->t0, whole = n / s->v->nr * s->v->nr;
	float rest[2 * FT_NR_MAX] = { 0 };
	for (int64_t t = 0; t < tokens; t++) {
		const float *x = ft_row(s->x, s->t0 + t) + s->i0;
		float *out = s->packed + t * s->v->nr;
		s->v->spread(x, whole, tokens * s->v->nr, out);
		if (whole == n) continue;
		memcpy(rest, x + whole, (size_t)(n - whole) * 4);
		s->v->spread(rest, s->v->nr, tokens * s->v->nr, out + whole * tokens);
	}
}

// The rows step by step; missing ones are 0.
static void pack_dy(struct strip *s) {
	const int64_t tokens = s->t1 - s->t0, mr = s->v->mr;
	for (int64_t t = 0; t < tokens; t++) {
		const float *dy = ft_row(s->dy, s->t0 + t), *next = ft_row(s->dy, s->t0 + ft_min(t + 4, tokens - 1));
		float *out = s->steps + t * FT_AK;
		for (int64_t p = s->first; p < s->end; p += mr, out += s->apart) {
			__builtin_prefetch(next + p);
			if (p + FT_AK <= s->n_out) {
				memcpy(out, dy + p, FT_AK * 4); // a constant size is a few moves; elements past the strip are not used
				continue;
			}
			memset(out, 0, FT_AK * 4);
			memcpy(out, dy + p, (size_t)ft_min(mr, s->end - p) * 4);
		}
	}
}

// Copies columns [i0, i1) of a factor f [n_in, r] to rows STRIDE apart, each followed by zeros for a vector.
static void copy_factor(const float *f, int64_t n_in, int64_t r, int64_t i0, int64_t i1, float *out) {
	for (int64_t q = 0; q < r; q++) {
		memcpy(out + q * STRIDE, f + q * n_in + i0, (size_t)(i1 - i0) * 4);
		memset(out + q * STRIDE + (i1 - i0), 0, FT_LANES_MAX * 4);
	}
}

// Rows [o, o+rows) of a factor f [r, n_out] step by step, 0 for missing rows.
static void transpose_factor(const float *f, int64_t r, int64_t o, int64_t rows, float *out) {
	memset(out, 0, (size_t)(r * FT_AK) * 4);
	for (int64_t q = 0; q < rows; q++)
		for (int64_t k = 0; k < r; k++) out[k * FT_AK + q] = f[(o + q) * r + k];
}

static void add_transposed(float *f, int64_t r, int64_t o, int64_t rows, const float *grads, bool first) {
	for (int64_t q = 0; q < rows; q++)
		for (int64_t k = 0; k < r; k++) f[(o + q) * r + k] = grads[k * FT_AK + q] + (first ? 0 : f[(o + q) * r + k]);
}

// G for the rows: a block of an x panel stays in the first-level cache while all strips pass by.
static void multiply_strips(struct strip *s) {
	const struct ft_simd *v = s->v;
	const int64_t tokens = s->t1 - s->t0;
	if (s->bytes) {
		ft_byte_strips(s->bytes, s->first / v->mr, (s->end + v->mr - 1) / v->mr, s->i0 / v->nr, s->i1 - s->i0, s->g, STRIDE);
		return;
	}
	pack_dy(s);
	for (int64_t k = 0; k < tokens; k += FT_KC) {
		const int64_t kc = ft_min(FT_KC, tokens - k);
		for (int64_t i = 0; i < s->i1 - s->i0; i += v->nr) {
			const float *steps = s->steps + k * FT_AK, *x = s->packed + i * tokens + k * v->nr;
			float *g = s->g + i;
			for (int64_t o = s->first; o < s->end; o += v->mr, steps += s->apart, g += v->mr * STRIDE)
				v->tile_steps(kc, steps, x, g, STRIDE, k > 0);
		}
	}
}

// What the packed strip of rows at o contributes.
static void strip_grads(struct strip *s, int64_t o, int64_t rows, float *db, float *dd) {
	const struct factors *f = &s->f;
	const bool first = s->i0 == 0 && s->t0 == 0;
	float *g = s->g + (o - s->first) * STRIDE;
	transpose_factor(f->b, f->r1, o, rows, s->bt);
	transpose_factor(f->d, f->r2, o, rows, s->dt);
	memset(s->dbt, 0, (size_t)(f->r1 * FT_AK) * 4);
	if (f->magnitude) {
		s->v->thin_grads(s->i1 - s->i0, g, STRIDE, s->a, s->c, s->da, s->bt, s->dt, f->r2, f->s, s->dbt);
		add_transposed(db, 1, o, rows, s->dbt, first);
		return;
	}
	memset(s->ddt, 0, (size_t)(f->r2 * FT_AK) * 4);
	for (int64_t i = 0; i < s->i1 - s->i0; i += NEAR)
		s->v->dual_grads(ft_min(NEAR, s->i1 - s->i0 - i), g + i, s->dn + i, STRIDE, s->a + i, s->c + i, s->da + i, s->dc + i,
			s->bt, f->r1, s->dt, f->r2, f->s, f->limit, s->dbt, s->ddt);
	add_transposed(db, f->r1, o, rows, s->dbt, first);
	add_transposed(dd, f->r2, o, rows, s->ddt, first);
}

// A share [r][n_in] of dA or dC and its columns in the strip.
static void load_share(const struct strip *s, const float *share, int64_t r, float *out) {
	if (s->t0 == 0) memset(out, 0, (size_t)(r * STRIDE) * 4);
	else copy_factor(share, s->f.n_in, r, s->i0, s->i1, out);
}
static void store_share(const struct strip *s, float *share, int64_t r, const float *in) {
	for (int64_t k = 0; k < r; k++) memcpy(share + k * s->f.n_in + s->i0, in + k * STRIDE, (size_t)(s->i1 - s->i0) * 4);
}

// Rows [o0, o1) are the part's, those before o_end the thread's.
static void part_grads(struct strip *s, int64_t o0, int64_t o1, int64_t o_end, float *share, float *db, float *dd) {
	float *share_c = share + s->f.r1 * s->f.n_in;
	load_share(s, share, s->f.r1, s->da);
	if (!s->f.magnitude) load_share(s, share_c, s->f.r2, s->dc);
	for (int64_t o = o0; o < o1; o += s->v->mr) {
		if (o >= s->end) {
			s->first = o, s->end = ft_min(o + STRIPS * s->v->mr, o_end);
			multiply_strips(s);
		}
		strip_grads(s, o, ft_min(s->v->mr, o1 - o), db, dd);
	}
	store_share(s, share, s->f.r1, s->da);
	if (!s->f.magnitude) store_share(s, share_c, s->f.r2, s->dc);
}

static float *cut(float **rest, int64_t n) {
	float *p = *rest;
	*rest += ft_up(n, 16);
	return p;
}

// The columns of x that go together.
static int64_t columns_of(const struct ft_simd *v, int64_t n_in) {
	const int64_t ranges = (n_in + COLUMNS - 1) / COLUMNS;
	return ft_min(COLUMNS, ft_up((n_in + ranges - 1) / ranges, v->nr));
}

// From one strip of dy to the next.
static int64_t strip_floats(int64_t tokens) { return tokens * FT_AK + 16; } // not a power of two

static size_t scratch_floats(int64_t n_in, int64_t ranks, int64_t tokens) {
	return (size_t)(columns_of(ft_best_simd(), n_in) * tokens + STRIPS * strip_floats(tokens) + (STRIPS + 1) * FT_MR_MAX * STRIDE +
		ranks * 2 * (STRIDE + FT_AK) + 256);
}

size_t ft_dual_grads_scratch(const struct ggml_tensor *dst) {
	return scratch_floats(dst->src[0]->ne[0], dst->src[2]->ne[1] + dst->src[4]->ne[1], ft_min(ft_rows(dst->src[0]), TOKENS));
}

size_t ft_byte_grads_scratch(const struct ggml_tensor *dst) { return scratch_floats(dst->src[2]->ne[0], 1 + dst->src[4]->ne[1], 0); }

// s has the operands. Those in F32 are packed TOKENS at a time, the others are there.
static void grads(struct strip s, tensor dst, int64_t n_tokens, int ith, int nth) {
	const tensor a = dst->src[2], b = dst->src[3], c = dst->src[4], d = dst->src[5];
	const float limit = ft_param(dst, 1);
	s.v = ft_best_simd(), s.n_out = b->ne[1];
	s.f = (struct factors){ a->data, b->data, c->data, d->data, a->ne[0], a->ne[1], c->ne[1], ft_param(dst, 0), limit > 0 ? limit : INFINITY, s.f.magnitude };
	const int64_t n_in = s.f.n_in, ranks = s.f.r1 + (s.f.magnitude ? 0 : s.f.r2), at_once = s.bytes ? n_tokens : TOKENS;
	const int64_t packed = s.bytes ? 0 : ft_min(n_tokens, TOKENS);
	const int64_t parts = ft_dual_parts(n_in, s.n_out, ranks), strips = (s.n_out + s.v->mr - 1) / s.v->mr;
	const int64_t columns = columns_of(s.v, n_in);
	const int64_t from = parts * ith / nth, to = parts * (ith + 1) / nth, o_end = ft_min(s.n_out, strips * to / parts * s.v->mr);
	float *shares = dst->data, *db = shares + parts * ranks * n_in, *dd = db + s.f.r1 * s.n_out;

	s.apart = strip_floats(packed);
	float *scratch = ft_scratch_take(scratch_floats(n_in, s.f.r1 + s.f.r2, packed));
	float *rest = scratch;
	s.packed = cut(&rest, columns * packed), s.steps = cut(&rest, STRIPS * s.apart);
	s.g = cut(&rest, STRIPS * FT_MR_MAX * STRIDE), s.dn = cut(&rest, FT_MR_MAX * STRIDE);
	s.a = cut(&rest, s.f.r1 * STRIDE), s.c = cut(&rest, s.f.r2 * STRIDE);
	s.da = cut(&rest, s.f.r1 * STRIDE), s.dc = cut(&rest, s.f.r2 * STRIDE);
	s.bt = cut(&rest, s.f.r1 * FT_AK), s.dt = cut(&rest, s.f.r2 * FT_AK);
	s.dbt = cut(&rest, s.f.r1 * FT_AK), s.ddt = cut(&rest, s.f.r2 * FT_AK);
	for (s.t0 = 0; s.t0 < n_tokens; s.t0 = s.t1) {
		s.t1 = ft_min(n_tokens, s.t0 + at_once);
		for (s.i0 = 0; s.i0 < n_in; s.i0 = s.i1) {
			s.i1 = ft_min(n_in, s.i0 + columns);
			if (!s.bytes) pack_x(&s);
			copy_factor(s.f.a, n_in, s.f.r1, s.i0, s.i1, s.a);
			copy_factor(s.f.c, n_in, s.f.r2, s.i0, s.i1, s.c);
			s.end = 0; // nothing is there of G
			for (int64_t p = from; p < to; p++)
				part_grads(&s, strips * p / parts * s.v->mr, ft_min(s.n_out, strips * (p + 1) / parts * s.v->mr), o_end,
					shares + p * ranks * n_in, db, dd);
		}
	}
	ft_scratch_give(scratch);
}

static struct strip in_f32(tensor dst, bool magnitude) {
	return (struct strip){ .x = dst->src[0], .dy = dst->src[1], .f = { .magnitude = magnitude } };
}

// src: x, dy, a, b, c, d; parameters: s, and the limit of |N|, 0 for none. dst: shares [parts][dA | dC], then dB, then dD.
void ft_dual_grads(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	grads(in_f32(dst, false), dst, ft_rows(dst->src[0]), ith, nth);
}

// The same of one rank of A and B. dst: shares [parts][dA], then dB.
void ft_thin_grads(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	grads(in_f32(dst, true), dst, ft_rows(dst->src[0]), ith, nth);
}

// The same of x and dy in 8 bits. src: the nodes of ft_quantize and of ft_balance, a, b, c, d.
void ft_byte_grads(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const int64_t tokens = dst->src[1]->ne[0];
	const struct ft_quantized q = ft_quantized_at(dst->src[0]->data, dst->src[2]->ne[0], dst->src[3]->ne[1], tokens);
	grads((struct strip){ .bytes = &q, .f = { .magnitude = true } }, dst, tokens, ith, nth);
}

// out[i] = Σ_p shares[p·step + i] for the thread's range of n elements, in the order of p.
static void add_shares(const float *shares, int64_t parts, int64_t step, int64_t n, float *out, int ith, int nth) {
	const int64_t from = n * ith / nth, to = n * (ith + 1) / nth;
	memcpy(out + from, shares + from, (size_t)(to - from) * 4);
	for (int64_t p = 1; p < parts; p++)
		for (int64_t i = from; i < to; i++) out[i] += shares[p * step + i];
}

static void copy_range(const float *in, int64_t n, float *out, int ith, int nth) {
	const int64_t from = n * ith / nth, to = n * (ith + 1) / nth;
	memcpy(out + from, in + from, (size_t)(to - from) * 4);
}

// src: the node of ft_dual_grads, a, b, c, d. dst: [dA | dB | dC | dD].
void ft_dual_sum(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const tensor a = dst->src[1], b = dst->src[2], c = dst->src[3];
	const int64_t n_in = a->ne[0], r1 = a->ne[1], r2 = c->ne[1], n_out = b->ne[1], ranks = r1 + r2;
	const int64_t parts = ft_dual_parts(n_in, n_out, ranks), step = ranks * n_in;
	const float *shares = dst->src[0]->data, *db = shares + parts * step, *dd = db + r1 * n_out;
	float *out = dst->data;
	add_shares(shares, parts, step, r1 * n_in, out, ith, nth);
	copy_range(db, r1 * n_out, out + r1 * n_in, ith, nth);
	add_shares(shares + r1 * n_in, parts, step, r2 * n_in, out + r1 * (n_in + n_out), ith, nth);
	copy_range(dd, r2 * n_out, out + r1 * (n_in + n_out) + r2 * n_in, ith, nth);
}

// src: the node of ft_thin_grads, a, b. dst: [dA | dB].
void ft_thin_sum(tensor dst, int ith, int nth, void *userdata) {
	(void)userdata;
	const int64_t n_in = dst->src[1]->ne[0], n_out = dst->src[2]->ne[1], parts = ft_dual_parts(n_in, n_out, 1);
	const float *shares = dst->src[0]->data;
	float *out = dst->data;
	add_shares(shares, parts, n_in, n_in, out, ith, nth);
	copy_range(shares + parts * n_in, n_out, out + n_in, ith, nth);
}
