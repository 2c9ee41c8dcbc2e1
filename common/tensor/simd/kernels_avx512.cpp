#include "common/tensor/simd/vector_avx512.hpp"

#define KV_KERNEL_TABLE avx512_kernels
#include "common/tensor/simd/kernels.inc"
