#pragma once
/// @file
/// Two f32 numbers as operands of tensor cores that multiply bf16 only: x = high + low, good to 16 bits.
#include "common/cuda/device.hpp"

namespace kv::cuda {

/// Two neighbours of a row in one register each.
struct HighLow {
  std::uint32_t high, low;
};

// [split]
/// What rounding to bf16 leaves is rounded to bf16 again.
__device__ inline HighLow split(float a, float b) {
  const std::uint32_t high = pack(a, b);
  const float a_high = __uint_as_float(high << 16), b_high = __uint_as_float(high & 0xffff0000u);
  return {high, pack(a - a_high, b - b_high)};
}
// [split]

}  // namespace kv::cuda
