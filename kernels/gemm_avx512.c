// 14×32 tiles: 28 of the 32 registers hold sums.
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>
#define FT_NAME ft_avx512
#define FT_TEXT "avx512"
#define FT_TARGET __attribute__((target("avx512f,avx512dq,avx2,fma,f16c")))
#define FT_LANES 16
#define FT_MR 14
#define FT_NV 2
#define FT_BLOCK 512
#define FT_HAS_F16

static FT_TARGET void from_f16(const void *src, float *dst, int64_t n) {
	const uint16_t *s = src;
	int64_t i = 0;
	for (; i + 16 <= n; i += 16) _mm512_storeu_ps(dst + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(s + i))));
	for (; i < n; i++) dst[i] = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(s[i])));
}

#include "gemm_simd.h"
#endif
