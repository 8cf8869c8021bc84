#if defined(__x86_64__)
#define FT_NAME ft_batch_avx2
#define FT_TEXT "avx2"
#define FT_TARGET __attribute__((target("avx2,fma")))
#define FT_LANES 8
#define FT_MR 6
#define FT_NV 2
#include "batch_simd.h"
#endif
