// 6×16 tiles: 12 of the 16 registers hold sums.
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>
#define FT_NAME ft_avx2
#define FT_TEXT "avx2"
#define FT_TARGET __attribute__((target("avx2,fma,f16c")))
#define FT_LANES 8
#define FT_MR 6
#define FT_NV 2
#define FT_BLOCK 256
#define FT_HAS_F16

static FT_TARGET void from_f16(const void *src, float *dst, int64_t n) {
	const uint16_t *s = src;
	int64_t i = 0;
	for (; i + 8 <= n; i += 8) _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(s + i))));
	for (; i < n; i++) dst[i] = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(s[i])));
}

#include "gemm_simd.h"
#endif
