#include "common/simd/vector_avx2.hpp"

#define KV_KERNEL_TABLE avx2_kernels
#include "common/simd/kernels.inc"
