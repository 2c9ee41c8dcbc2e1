#include "common/tensor/simd/vector_portable.hpp"

#define KV_KERNEL_TABLE portable_kernels
#include "common/tensor/simd/kernels.inc"
