// 14×32 tiles of the dot products of AVX-512 VNNI: Ice Lake, Zen 4 and later.
#include "bytes.h"
#if defined(__x86_64__)
#include <immintrin.h>
#define FT_NAME avx512_vnni
#define FT_TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vnni,avx2,fma")))
#define FT_LANES 16
#define FT_MR 14
#define FT_NV 2
#define FT_OFFSET 128
#include "vectors.h"

FT_INLINE ivec dot(ivec sums, ivec x, uint32_t dy) {
	return (ivec)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)x, _mm512_set1_epi32((int32_t)dy));
}

#include "bytes_simd.h"

const struct ft_bytes *ft_bytes_avx512(void) {
	return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") ? &avx512_vnni : NULL;
}
#endif
