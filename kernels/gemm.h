// The packed product behind the training kernels: C[m, n] = Σ_k A[m, k]·B[k, n], all F32, C with n contiguous.
//
// B is cut into panels of NR columns, packed as [panel][k][NR] so that one step of k is a few whole vectors; A is cut into
// panels of MR rows. The innermost loop keeps MR×NR sums in registers and takes one vector row of B and MR broadcast
// elements of A for each step. A block of B (FT_KC steps, nc columns) stays in the second-level cache while all of A
// passes by, one panel at a time through the first-level cache. B is written by a producer, which is where weights are
// dequantized and adapters added: once for all rows of A.
#ifndef FINETUNE_GEMM_H
#define FINETUNE_GEMM_H

#include "kernels.h"

enum {
	FT_KC = 320,       // steps of k in a block of B
	FT_KS = FT_KC + 16, // floats from one row of an A panel to the next: an odd number of cache lines
	FT_NC_MAX = 1024,
	FT_MR_MAX = 14,
	FT_NR_MAX = 32,
	FT_AK = 16, // floats from one step to the next of an A panel that is stored step by step
	FT_LANES_MAX = 16,
};

// What one instruction set offers. Vectors have `lanes` floats; lengths marked "padded" are rounded up to whole vectors by
// the callee, which the buffers must have room for.
struct ft_simd {
	const char *name;
	int lanes, mr, nr;
	int nc; // columns in a block of B: a multiple of NR and of 256; FT_KC·nc floats fit the second-level cache

	// c[m·ldc + n] = (add ? c : 0) + Σ_k a·b over a full MR×NR tile. b is [k][NR], aligned.
	// tile: a is [MR][FT_KS]; tile_steps: a is [k][FT_AK].
	void (*tile)(int64_t k, const float *a, const float *b, float *c, int64_t ldc, bool add);
	void (*tile_steps)(int64_t k, const float *a, const float *b, float *c, int64_t ldc, bool add);

	// `lanes` rows of k floats, stride apart, become as many columns of a panel: out[p·NR + q] = rows[q·stride + p].
	void (*columns)(int64_t k, const float *rows, int64_t stride, float *out);
	// A row of n floats, rounded up to whole panels, becomes one step of panels that lie `panel` floats apart.
	void (*spread)(const float *row, int64_t n, int64_t panel, float *out);
	// F16 to F32; NULL where ggml's own is used.
	void (*from_f16)(const void *src, float *dst, int64_t n);

	// out[q·NR + j] += s·ReLU(M) ⊙ sign(N) for at most FT_AK steps q of a panel: M = Σ_r m_left[r·FT_AK + q]·m_right[r·NR + j]
	// over r1 ranks, N likewise over r2. See factor.h.
	void (*add_delta)(int64_t steps, const float *m_left, const float *m_right, int64_t r1, const float *n_left,
		const float *n_right, int64_t r2, float s, float *out);
	// Gradients of the factors from a tile G [MR][stride] of n (padded) columns; see dual_grads.c.
	void (*dual_grads)(int64_t n, float *g, float *dn, int64_t stride, const float *a, const float *c, float *da, float *dc,
		const float *bt, int64_t r1, const float *dt, int64_t r2, float s, float limit, float *db, float *dd);
	// Those of A and B alone, of one rank.
	void (*thin_grads)(int64_t n, const float *g, int64_t stride, const float *a, const float *c, float *da, const float *bt,
		const float *dt, int64_t r2, float s, float *db);

	// Row operations; see rows.c.
	double (*exp_sum)(const float *x, int64_t n, float *max);
	void (*exp_scale)(const float *x, float *y, int64_t n, float max, float scale);
	void (*rms_norm_mul)(const float *x, const float *w, float *y, int64_t n, float eps);
	void (*rms_norm_back)(const float *x, const float *w, const float *dy, float *dx, int64_t n, float eps); // w NULL: 1
	void (*layer_norm_mul)(const float *x, const float *w, float *y, int64_t n, float eps);
	void (*layer_norm_back)(const float *x, const float *w, const float *dy, float *dx, int64_t n, float eps); // w NULL: 1
	void (*gelu)(const float *x, float *y, int64_t n, bool table); // table: rounded as ggml's table is
	void (*gelu_back)(const float *x, const float *dy, float *dx, int64_t n);
	void (*rotate_pairs)(const float *x, const float *c, const float *s, float *y, int64_t n); // n even
	void (*rotate_halves)(const float *x, const float *c, const float *s, float *y, int64_t n);
	void (*soft_max_back)(const float *y, const float *dy, float *dx, int64_t n, float scale);
	void (*swiglu_back)(const float *g, const float *u, const float *dy, float *dg, float *du, int64_t n);
	// Attention's rows; attention.c. A mask of NULL is 0.
	// x = e^(x + mask − max); returns the sum, and the logarithm of Σ e^(x + mask).
	float (*soft_row)(float *x, const float *mask, int64_t n, float *lse);
	// x = p = e^(x + mask − lse), dp = p ⊙ (dp − dot).
	void (*soft_row_back)(float *x, float *dp, const float *mask, int64_t n, float lse, float dot);

	// Runs `rounds` rounds of independent multiply-adds in registers and returns how many floating-point operations it did.
	double (*peak)(int64_t rounds);
};

extern const struct ft_simd ft_portable;
#if defined(__x86_64__)
extern const struct ft_simd ft_avx2, ft_avx512;
#elif defined(__aarch64__)
extern const struct ft_simd ft_neon;
#endif

// The best set that the CPU has, or the one that ft_use_simd chose (false: unknown, or the CPU does not have it).
const struct ft_simd *ft_best_simd(void);
bool ft_use_simd(const char *name);

// Scratch memory of at least n floats, 64-byte aligned, from a pool that lives as long as the process: a steady state
// allocates nothing. NULL never: without memory the process stops, as it does inside ggml.
float *ft_scratch_take(size_t n);
void ft_scratch_give(float *p);
// The bytes of a piece, those in the pool, and the pool given back to the system; neither knows of pieces that are in use.
size_t ft_piece_bytes(size_t floats);
size_t ft_scratch_held(void);
void ft_scratch_free(void);

// B as a function: writes columns [j0, j1) and steps [k0, k1) as panels [⌈(j1−j0)/NR⌉][k1−k0][NR] to out.
struct ft_source {
	void (*panels)(const struct ft_source *s, const struct ft_simd *v, int64_t k0, int64_t k1, int64_t j0, int64_t j1,
		float *out, float *work);
	int64_t k_align; // steps that belong together
	size_t work;     // floats of scratch it wants
};

// The scratch that a thread of ft_gemm takes, in floats.
size_t ft_gemm_scratch(const struct ft_simd *v, const struct ft_source *b);

// Thread ith of nth computes its part of C [m rows, ldc apart; n columns] = A [m rows, lda apart, k contiguous]·B.
// The result does not depend on nth.
void ft_gemm(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const struct ft_source *b, float *c, int64_t ldc,
	int ith, int nth);

static inline int64_t ft_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t ft_up(int64_t a, int64_t to) { return (a + to - 1) / to * to; }

// Elements of two vectors by number, and two vectors end to end as one of type `whole`. gcc has clang's builtin since
// version 12; before, it shuffles into vectors of the same width only.
#if defined(__clang__) || __GNUC__ >= 12
#define FT_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define FT_CONCAT(whole, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FT_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (int32_t __attribute__((vector_size(sizeof (a))))){ __VA_ARGS__ })
#define FT_CONCAT(whole, a, b, ...) ((union { __typeof__((a) + (b)) half[2]; whole both; }){ .half = { a, b } }.both)
#endif

// Parameter i of a node; in Go it is param.
static inline float ft_param(const struct ggml_tensor *t, int i) {
	union { int32_t i; float f; } u = { t->op_params[FT_PARAM + i] };
	return u.f;
}
static inline tensor ft_set_param(tensor t, int i, float f) {
	union { float f; int32_t i; } u = { f };
	t->op_params[FT_PARAM + i] = u.i;
	return t;
}

#endif
