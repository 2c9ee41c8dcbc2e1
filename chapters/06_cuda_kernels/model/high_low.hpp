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

/// Lane l's row for ldmatrix of a block of 16 x 16: of a left factor (16 rows), of a right factor that is stored by columns
/// (16 columns), of one that is stored by rows (16 rows, transposed).
template <int Pitch>
__device__ const bf16* left(const bf16* block, int lane) { return block + lane % 16 * Pitch + lane / 16 * 8; }
template <int Pitch>
__device__ const bf16* right_columns(const bf16* block, int lane) {
  return block + (lane % 8 + lane / 16 * 8) * Pitch + lane / 8 % 2 * 8;
}
template <int Pitch>
__device__ const bf16* right_rows(const bf16* block, int lane) { return left<Pitch>(block, lane); }

}  // namespace kv::cuda
