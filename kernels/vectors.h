// The compiler's vectors for one instruction set: the including file defines FT_LANES, FT_NV and FT_TARGET, see gemm_simd.h.
#ifndef FINETUNE_KERNELS_VECTORS_H
#define FINETUNE_KERNELS_VECTORS_H

#include <stdint.h>

#define FT_NR (FT_NV * FT_LANES)
#define FT_INLINE static inline __attribute__((always_inline)) FT_TARGET
#define FT_FUNC static FT_TARGET
#if defined(__clang__)
#define FT_UNROLL _Pragma("unroll")
#else
#define FT_UNROLL _Pragma("GCC unroll 32")
#endif

typedef float vec __attribute__((vector_size(4 * FT_LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * FT_LANES)));
typedef float vec4 __attribute__((vector_size(16)));
typedef float vec8 __attribute__((vector_size(32)));
// The same at any address of floats.
typedef float uvec __attribute__((vector_size(4 * FT_LANES), aligned(4), may_alias));
typedef float uvec4 __attribute__((vector_size(16), aligned(4), may_alias));

#define LOAD(p) (*(const uvec *)(p))
#define STORE(p, v) (*(uvec *)(p) = (v))

#endif
