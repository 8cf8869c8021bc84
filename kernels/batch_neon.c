#if defined(__aarch64__)
#define FT_NAME ft_batch_neon
#define FT_TEXT "neon"
#define FT_TARGET
#define FT_LANES 4
#define FT_MR 6
#define FT_NV 4
#include "batch_simd.h"
#endif
