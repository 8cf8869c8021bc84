// 6×16 tiles of the dot products of AVX-VNNI: Alder Lake, Zen 5 and later.
#include "bytes.h"
#if defined(__x86_64__)
#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#include <cpuid.h>
#include <immintrin.h>
#define FT_NAME avx_vnni
#define FT_TARGET __attribute__((target("avx2,fma,avxvnni")))
#define FT_LANES 8
#define FT_MR 6
#define FT_NV 2
#define FT_OFFSET 128
#include "vectors.h"

FT_INLINE ivec dot(ivec sums, ivec x, uint32_t dy) {
	return (ivec)_mm256_dpbusd_avx_epi32((__m256i)sums, (__m256i)x, _mm256_set1_epi32((int32_t)dy));
}

#include "bytes_simd.h"

const struct ft_bytes *ft_bytes_avx2(void) {
	unsigned a = 0, b, c, d;
	return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 4 & 1 ? &avx_vnni : NULL;
}
#else
const struct ft_bytes *ft_bytes_avx2(void) { return NULL; }
#endif
#endif
