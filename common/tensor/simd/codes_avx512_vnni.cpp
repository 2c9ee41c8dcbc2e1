/// @file
/// Sums over rows of 8-bit integers by `vpdpwssd`, which multiplies pairs of 16 bits and adds both products at once.
#include "common/tensor/simd/vector_avx512.hpp"

#include "common/tensor/simd/bf16_parts.hpp"

namespace kv::simd {
namespace {

using std::size_t;

#include "common/tensor/simd/pieces.inc"

#include "common/tensor/simd/codes.inc"

}  // namespace

extern const CodeKernels vnni_code_kernels;
const CodeKernels vnni_code_kernels = {dot_codes, add_weighted_codes};

}  // namespace kv::simd

#undef KV_UNROLL
