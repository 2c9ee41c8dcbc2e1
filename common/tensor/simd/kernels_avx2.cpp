#include "common/tensor/simd/vector_avx2.hpp"

#define KV_KERNEL_TABLE avx2_kernels
#include "common/tensor/simd/kernels.inc"
