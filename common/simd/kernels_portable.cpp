#include "common/simd/vector_portable.hpp"

#define KV_KERNEL_TABLE portable_kernels
#include "common/simd/kernels.inc"
