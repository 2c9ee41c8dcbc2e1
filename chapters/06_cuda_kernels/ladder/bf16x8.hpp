#pragma once
/// @file
/// Rows of bf16 in pieces that one load instruction of a thread moves: 8 numbers in 16 bytes, or 4 in 8.
#include "common/cuda/device.hpp"

namespace kv::cuda {

/// The two numbers of a 32-bit word. bf16 is the upper half of an f32: a shift and a mask widen it.
__device__ inline float low_half(unsigned word) { return __uint_as_float(word << 16); }
__device__ inline float high_half(unsigned word) { return __uint_as_float(word & 0xffff0000u); }

/// The i-th 16 bytes of a row.
__device__ inline uint4 load_8(const bf16* row, int i) { return reinterpret_cast<const uint4*>(row)[i]; }
/// The i-th 8 bytes of a row.
__device__ inline uint2 load_4(const bf16* row, int i) { return reinterpret_cast<const uint2*>(row)[i]; }

/// A product of 2 x 2 numbers, added to `sum`.
__device__ inline float dot_2(unsigned a, unsigned b, float sum) {
  return sum + low_half(a) * low_half(b) + high_half(a) * high_half(b);
}
/// A product of 8 x 8 numbers, added to `sum`.
__device__ inline float dot_8(uint4 a, uint4 b, float sum) {
  return dot_2(a.w, b.w, dot_2(a.z, b.z, dot_2(a.y, b.y, dot_2(a.x, b.x, sum))));
}

}  // namespace kv::cuda
