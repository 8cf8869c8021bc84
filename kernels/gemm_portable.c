// 6×8 tiles of four floats a vector: what the compiler makes of it on any CPU (12 of 16 SSE registers on amd64).
#define FT_NAME ft_portable
#define FT_TEXT "portable"
#define FT_TARGET
#define FT_LANES 4
#define FT_MR 6
#define FT_NV 2
#define FT_BLOCK 256
#include "gemm_simd.h"
