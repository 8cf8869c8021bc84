#define FT_NAME ft_batch_portable
#define FT_TEXT "portable"
#define FT_TARGET
#define FT_LANES 4
#define FT_MR 6
#define FT_NV 2
#include "batch_simd.h"
