#include "common/simd/vector_avx512.hpp"

#define KV_KERNEL_TABLE avx512_kernels
#include "common/simd/kernels.inc"
