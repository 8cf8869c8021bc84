// The loops of struct ft_batch_simd for one instruction set; the including file defines FT_NAME, FT_TEXT, FT_TARGET,
// FT_LANES, FT_MR and FT_NV as for gemm_simd.h.
#include "batch.h"
#include "vectors.h"

#include <string.h>

FT_INLINE void start_tile(vec acc[FT_MR][FT_NV], float *c, int64_t ldc) {
	FT_UNROLL for (int m = 0; m < FT_MR; m++) {
		__builtin_prefetch(c + m * ldc, 1);
		__builtin_prefetch(c + m * ldc + FT_NR - 1, 1);
		FT_UNROLL for (int v = 0; v < FT_NV; v++) acc[m][v] = (vec){ 0 };
	}
}

FT_INLINE void end_tile(vec acc[FT_MR][FT_NV], float *c, int64_t ldc, bool add) {
	FT_UNROLL for (int m = 0; m < FT_MR; m++)
		FT_UNROLL for (int v = 0; v < FT_NV; v++) {
			float *p = c + m * ldc + v * FT_LANES;
			if (add) acc[m][v] += LOAD(p);
			STORE(p, acc[m][v]);
		}
}

// Three pointers and two distances reach all rows with the addressing of one load each.
FT_FUNC void tile_rows(int64_t k, const float *a, int64_t lda, const float *b, float *c, int64_t ldc, bool add) {
	vec acc[FT_MR][FT_NV];
	start_tile(acc, c, ldc);
	const float *p[3] = { a, a + 5 * lda, a + 10 * lda };
	int64_t lda3 = 3 * lda;
	for (; k > 0; k--, b += FT_NR) {
		__asm__("" : "+r"(lda), "+r"(lda3)); // keeps the compiler from a pointer for each row
		vec bv[FT_NV];
		FT_UNROLL for (int v = 0; v < FT_NV; v++) bv[v] = *(const vec *)(b + v * FT_LANES);
		FT_UNROLL for (int m = 0; m < FT_MR; m++) {
			const float x = p[m / 5][m % 5 == 3 ? lda3 : m % 5 * lda];
			FT_UNROLL for (int v = 0; v < FT_NV; v++) acc[m][v] += x * bv[v];
		}
		FT_UNROLL for (int i = 0; i < (FT_MR + 4) / 5; i++) p[i]++;
	}
	end_tile(acc, c, ldc, add);
}

FT_FUNC void tile_columns(int64_t k, const float *a, int64_t lda, const float *b, float *c, int64_t ldc, bool add) {
	vec acc[FT_MR][FT_NV];
	start_tile(acc, c, ldc);
	for (; k > 0; k--, b += FT_NR, a += lda) {
		__builtin_prefetch(a + 24 * lda);
		vec bv[FT_NV];
		FT_UNROLL for (int v = 0; v < FT_NV; v++) bv[v] = *(const vec *)(b + v * FT_LANES);
		FT_UNROLL for (int m = 0; m < FT_MR; m++)
			FT_UNROLL for (int v = 0; v < FT_NV; v++) acc[m][v] += a[m] * bv[v];
	}
	end_tile(acc, c, ldc, add);
}

#include "lora_simd.h"
#include "delta_simd.h"

const struct ft_batch_simd FT_NAME = {
	.name = FT_TEXT, .tile_rows = tile_rows, .tile_columns = tile_columns,
	.together = FT_TOGETHER, .wide = FT_WIDE * FT_LANES, .dots = dots, .outer = outer,
	.delta_step = delta_step, .delta_step_back = delta_step_back,
};
