// The loops of struct ft_bytes for one instruction set. The including file defines
//   FT_NAME, FT_TARGET, FT_LANES, FT_MR, FT_NV   as gemm_simd.h has them
//   FT_OFFSET                                    what is added to x: 128 where the dot product takes it unsigned, else 0
// and dot(sums, x, dy): to each lane of `sums` the products of four bytes of x with the four of dy.
#include "bytes.h"
#include "vectors.h"

#include <string.h>

// What is no number becomes any integer, and its scale NaN: nothing may overflow.
typedef uint32_t bits __attribute__((vector_size(4 * FT_LANES)));

enum { WIDTH = (FT_MR + FT_LANES - 1) / FT_LANES * FT_LANES };

FT_FUNC float squares(const float *x, int64_t n) {
	vec sum[4] = { { 0 }, { 0 }, { 0 }, { 0 } };
	int64_t i = 0;
	for (; i + 4 * FT_LANES <= n; i += 4 * FT_LANES)
		FT_UNROLL for (int k = 0; k < 4; k++) {
			const vec v = LOAD(x + i + k * FT_LANES);
			sum[k] += v * v;
		}
	float rest = 0;
	for (; i < n; i++) rest += x[i] * x[i];
	const vec all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
	for (int l = 0; l < FT_LANES; l++) rest += all[l];
	return rest;
}

// Adding this to a small number rounds it to a whole one, to even between two, and leaves it in the lowest bits.
#define ROUND 12582912.0f // 1.5·2^23
enum { ROUND_BITS = 0x4B400000 };

FT_FUNC void quantize(const float *rows, int64_t stride, const float *by, int64_t tokens, bool x, uint32_t *out, int64_t step,
	float *scale, int32_t *sum) {
	vec most = { 0 }, odd = { 0 };
	for (int64_t t = 0; t < tokens; t++) {
		const vec v = LOAD(rows + t * stride) * by[t], positive = (vec)((ivec)v & INT32_MAX);
		most = (vec)(((ivec)positive & (ivec)(positive > most)) | ((ivec)most & ~(ivec)(positive > most)));
		odd += v - v; // NaN for what is no number
	}
	STORE(scale, most / 127 + odd);
	const vec up = (vec)((ivec)(127 / most) & (ivec)(most > 1e-30f));
	const uint32_t added = x ? FT_OFFSET : 0;
	bits total = { 0 };
	for (int64_t t = 0; t < tokens; t += 4, out += step) {
		bits word = { 0 };
		FT_UNROLL for (int k = 0; k < 4; k++) {
			bits n = { 0 };
			if (t + k < tokens) n = (bits)(LOAD(rows + (t + k) * stride) * by[t + k] * up + ROUND) - ROUND_BITS;
			total += n;
			word |= ((n + added) & 255) << 8 * k;
		}
		memcpy(out, &word, sizeof word);
	}
	if (sum) memcpy(sum, &total, sizeof total);
}

FT_FUNC void tile(int64_t quads, const uint32_t *dy, const int32_t *dy_sum, const float *dy_scale, const uint32_t *x,
	const float *x_scale, float *c, int64_t ldc, bool add) {
	ivec acc[FT_MR][FT_NV];
	FT_UNROLL for (int m = 0; m < FT_MR; m++) {
		__builtin_prefetch(c + m * ldc, 1);
		__builtin_prefetch(c + m * ldc + FT_NR - 1, 1);
		FT_UNROLL for (int v = 0; v < FT_NV; v++) acc[m][v] = (ivec)(((bits){ 0 } + (uint32_t)dy_sum[m]) * -(uint32_t)FT_OFFSET);
	}
	for (; quads > 0; quads--, x += FT_NR, dy += WIDTH) {
		ivec xv[FT_NV];
		FT_UNROLL for (int v = 0; v < FT_NV; v++) memcpy(&xv[v], x + v * FT_LANES, sizeof xv[v]);
		FT_UNROLL for (int m = 0; m < FT_MR; m++)
			FT_UNROLL for (int v = 0; v < FT_NV; v++) acc[m][v] = dot(acc[m][v], xv[v], dy[m]);
	}
	FT_UNROLL for (int v = 0; v < FT_NV; v++) {
		const vec scale = LOAD(x_scale + v * FT_LANES);
		FT_UNROLL for (int m = 0; m < FT_MR; m++) {
			float *p = c + m * ldc + v * FT_LANES;
			vec sum = __builtin_convertvector(acc[m][v], vec) * (scale * dy_scale[m]);
			if (add) sum += LOAD(p);
			STORE(p, sum);
		}
	}
}

static const struct ft_bytes FT_NAME = { .width = WIDTH, .squares = squares, .quantize = quantize, .tile = tile };
