// 6×16 tiles of the dot products of ARMv8.2: every Apple M, Cortex-A76 and later.
#include "bytes.h"
#if defined(__aarch64__)
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#define FT_NAME neon_dot
#if defined(__clang__)
#define FT_TARGET __attribute__((target("dotprod")))
#else
#define FT_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#define FT_LANES 4
#define FT_MR 6
#define FT_NV 4
#define FT_OFFSET 0
#include "vectors.h"

FT_INLINE ivec dot(ivec sums, ivec x, uint32_t dy) {
	return (ivec)vdotq_s32((int32x4_t)sums, (int8x16_t)x, vreinterpretq_s8_u32(vdupq_n_u32(dy)));
}

#include "bytes_simd.h"

const struct ft_bytes *ft_bytes_neon(void) {
#if defined(__linux__)
	return getauxval(AT_HWCAP) >> 20 & 1 ? &neon_dot : NULL; // HWCAP_ASIMDDP
#elif defined(__APPLE__)
	return &neon_dot;
#else
	return NULL;
#endif
}
#endif
