#if defined(__x86_64__)
#define FT_NAME ft_batch_avx512
#define FT_TEXT "avx512"
#define FT_TARGET __attribute__((target("avx512f,avx512dq,avx2,fma")))
#define FT_LANES 16
#define FT_MR 14
#define FT_NV 2
#include "batch_simd.h"
#endif
