// 6×16 tiles: 24 of the 32 registers hold sums. NEON is part of every arm64 CPU.
#if defined(__aarch64__)
#define FT_NAME ft_neon
#define FT_TEXT "neon"
#define FT_TARGET
#define FT_LANES 4
#define FT_MR 6
#define FT_NV 4
#define FT_BLOCK 256
#include "gemm_simd.h"
#endif
