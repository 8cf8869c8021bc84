// The loops of struct ft_simd for one instruction set, in the compiler's vectors. The including file defines
//   FT_NAME    prefix of the set          FT_TARGET  attribute that enables it, or nothing
//   FT_LANES   floats in a vector         FT_MR      rows of a tile (even)        FT_NV  vectors in a row of a tile
//   FT_BLOCK   columns in a block of B
// and, for sets that have it, a function from_f16.
#include "gemm.h"
#include "vectors.h"

#include <math.h>
#include <string.h>

// MR×NV sums in registers. Element (m, k) of A is a[m·row + k·step], both constants here.
FT_INLINE void tile_any(int64_t k, const float *a, const int64_t row, const int64_t step, const float *b, float *c, int64_t ldc, bool add) {
	vec acc[FT_MR][FT_NV];
	FT_UNROLL for (int m = 0; m < FT_MR; m++) {
		__builtin_prefetch(c + m * ldc, 1);
		__builtin_prefetch(c + m * ldc + FT_NR - 1, 1);
		FT_UNROLL for (int v = 0; v < FT_NV; v++) acc[m][v] = (vec){ 0 };
	}
	for (; k > 0; k--) {
		vec bv[FT_NV];
		FT_UNROLL for (int v = 0; v < FT_NV; v++) bv[v] = *(const vec *)(b + v * FT_LANES);
		FT_UNROLL for (int m = 0; m < FT_MR; m++)
			FT_UNROLL for (int v = 0; v < FT_NV; v++) acc[m][v] += a[m * row] * bv[v];
		a += step;
		b += FT_NR;
	}
	FT_UNROLL for (int m = 0; m < FT_MR; m++)
		FT_UNROLL for (int v = 0; v < FT_NV; v++) {
			float *p = c + m * ldc + v * FT_LANES;
			if (add) acc[m][v] += LOAD(p);
			STORE(p, acc[m][v]);
		}
}

FT_FUNC void tile(int64_t k, const float *a, const float *b, float *c, int64_t ldc, bool add) {
	tile_any(k, a, FT_KS, 1, b, c, ldc, add);
}

FT_FUNC void tile_steps(int64_t k, const float *a, const float *b, float *c, int64_t ldc, bool add) {
	tile_any(k, a, 1, FT_AK, b, c, ldc, add);
}

// Part l of z_q (four floats each) is taken from row 4·l + q; transposing 4×4 inside every part then leaves the rows in order.
#if FT_LANES == 16
#define JOIN(p, s) FT_CONCAT(vec, JOIN2(p, 4 * (s)), JOIN2((p) + 8 * (s), 4 * (s)), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#define ZIP_LO(a, b) FT_SHUFFLE(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define ZIP_HI(a, b) FT_SHUFFLE(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define PAIR_LO(a, b) FT_SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define PAIR_HI(a, b) FT_SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#elif FT_LANES == 8
#define JOIN(p, s) JOIN2(p, 4 * (s))
#define ZIP_LO(a, b) FT_SHUFFLE(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define ZIP_HI(a, b) FT_SHUFFLE(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define PAIR_LO(a, b) FT_SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define PAIR_HI(a, b) FT_SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#else
#define JOIN(p, s) LOAD(p)
#define ZIP_LO(a, b) FT_SHUFFLE(a, b, 0, 4, 1, 5)
#define ZIP_HI(a, b) FT_SHUFFLE(a, b, 2, 6, 3, 7)
#define PAIR_LO(a, b) FT_SHUFFLE(a, b, 0, 1, 4, 5)
#define PAIR_HI(a, b) FT_SHUFFLE(a, b, 2, 3, 6, 7)
#endif
#define JOIN2(p, s) FT_CONCAT(vec8, *(const uvec4 *)(p), *(const uvec4 *)((p) + (s)), 0, 1, 2, 3, 4, 5, 6, 7)

FT_FUNC void columns(int64_t k, const float *rows, int64_t stride, float *out) {
	int64_t p = 0;
	for (; p + 4 <= k; p += 4, out += 4 * FT_NR) {
		const vec z0 = JOIN(rows + p, stride), z1 = JOIN(rows + stride + p, stride);
		const vec z2 = JOIN(rows + 2 * stride + p, stride), z3 = JOIN(rows + 3 * stride + p, stride);
		const vec a = ZIP_LO(z0, z1), b = ZIP_HI(z0, z1), c = ZIP_LO(z2, z3), d = ZIP_HI(z2, z3);
		*(vec *)out = PAIR_LO(a, c);
		*(vec *)(out + FT_NR) = PAIR_HI(a, c);
		*(vec *)(out + 2 * FT_NR) = PAIR_LO(b, d);
		*(vec *)(out + 3 * FT_NR) = PAIR_HI(b, d);
	}
	for (; p < k; p++, out += FT_NR)
		for (int q = 0; q < FT_LANES; q++) out[q] = rows[q * stride + p];
}

FT_FUNC void spread(const float *row, int64_t n, int64_t panel, float *out) {
	for (; n > 0; n -= FT_NR, row += FT_NR, out += panel)
		FT_UNROLL for (int v = 0; v < FT_NV; v++) *(vec *)(out + v * FT_LANES) = LOAD(row + v * FT_LANES);
}

// As many independent sums as a tile has, each from another start so that no two are the same.
FT_FUNC double peak(int64_t rounds) {
	vec acc[FT_MR][FT_NV], x = (vec){ 0 } + 0.999f, y = (vec){ 0 } + 1e-3f;
	FT_UNROLL for (int m = 0; m < FT_MR; m++)
		FT_UNROLL for (int v = 0; v < FT_NV; v++) acc[m][v] = (vec){ 0 } + (float)(m * FT_NV + v);
	for (int64_t i = 0; i < rounds; i++) {
		FT_UNROLL for (int m = 0; m < FT_MR; m++)
			FT_UNROLL for (int v = 0; v < FT_NV; v++) acc[m][v] = acc[m][v] * x + y;
		__asm__ volatile("" : : : "memory");
	}
	vec sum = (vec){ 0 };
	FT_UNROLL for (int m = 0; m < FT_MR; m++)
		FT_UNROLL for (int v = 0; v < FT_NV; v++) sum += acc[m][v];
	volatile float keep = sum[0];
	(void)keep;
	return 2.0 * FT_MR * FT_NR * (double)rounds;
}

#include "dual_simd.h"
#include "rows_simd.h"

const struct ft_simd FT_NAME = {
	.name = FT_TEXT, .lanes = FT_LANES, .mr = FT_MR, .nr = FT_NR, .nc = FT_BLOCK,
	.tile = tile, .tile_steps = tile_steps, .columns = columns, .spread = spread,
#ifdef FT_HAS_F16
	.from_f16 = from_f16,
#endif
	.add_delta = add_delta, .dual_grads = dual_grads, .thin_grads = thin_grads,
	.exp_sum = exp_sum, .exp_scale = exp_scale, .rms_norm_mul = rms_norm_mul, .rms_norm_back = rms_norm_back,
	.layer_norm_mul = layer_norm_mul, .layer_norm_back = layer_norm_back, .gelu = gelu, .gelu_back = gelu_back,
	.rotate_pairs = rotate_pairs, .rotate_halves = rotate_halves, .soft_max_back = soft_max_back, .swiglu_back = swiglu_back,
	.soft_row = soft_row, .soft_row_back = soft_row_back, .peak = peak,
};
