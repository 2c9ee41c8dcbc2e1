#pragma once
/// @file
/// bf16: the upper half of an f32. Widening is exact; narrowing rounds to nearest, ties to even.
#include <bit>

#include "common/cuda/target.hpp"

namespace kv::cuda {

struct bf16 {
  std::uint16_t bits;
};

__host__ __device__ inline float to_float(bf16 value) {
  return std::bit_cast<float>(std::uint32_t{value.bits} << 16);
}

/// NaN becomes 0x7fff, as the GPU's conversion makes it. @see PTX ISA, "cvt"
__host__ __device__ inline bf16 to_bf16(float value) {
#if ON_GPU
  std::uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return {bits};
#else
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return {std::uint16_t{0x7fff}};
  return {static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
#endif
}

// Numbers of either format, where a kernel is written for both.
__host__ __device__ inline float to_float(float value) { return value; }
__device__ inline void store(float& to, float value) { to = value; }
__device__ inline void store(bf16& to, float value) { to = to_bf16(value); }

/// Two neighbours of a row in one register, as the tensor cores take them: `low` comes first in memory.
__device__ inline std::uint32_t pack(float low, float high) {
#if ON_GPU
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return to_bf16(low).bits | std::uint32_t{to_bf16(high).bits} << 16;
#endif
}

}  // namespace kv::cuda
