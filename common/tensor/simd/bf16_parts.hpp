#pragma once
/// @file
/// Inputs as numbers in bf16: one that is rounded, or three that are exact.
#include <cstddef>
#include <cstdint>

namespace kv::simd {
namespace {

inline std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float float_of(std::uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

/// To the nearest, ties to even. NaN stays NaN: rounding could carry it to infinity.
inline std::uint16_t rounded_to_bf16(float x) {
  const std::uint32_t bits = bits_of(x), rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return static_cast<std::uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 0x40 : rounded);
}

/// x = high + middle + low, exactly: 24 bits are three times eight. The bits are cut off and not rounded, so the largest
/// number does not become infinite. Infinity and NaN are in the high part alone.
struct Bf16Parts {
  std::uint16_t low, middle, high;
};
// [parts]
inline Bf16Parts bf16_parts(float x) {
  const std::uint32_t bits = bits_of(x), head = bits & 0xffff0000;
  const bool finite = (bits & 0x7f800000) != 0x7f800000, nan = (bits & 0x7fffffff) > 0x7f800000;
  const float rest = finite ? x - float_of(head) : 0.0f;
  const std::uint32_t rest_head = bits_of(rest) & 0xffff0000;
  const std::uint32_t last = bits_of(rest - float_of(rest_head));
  return {static_cast<std::uint16_t>(last >> 16), static_cast<std::uint16_t>(rest_head >> 16),
          static_cast<std::uint16_t>((head >> 16) | (nan ? 0x40 : 0))};
}
// [parts]

/// A block of 32 inputs as parts, the smallest first.
inline void take_block(const float* x, std::size_t parts, std::uint16_t (*out)[32]) {
  if (parts == 1) {
    for (int i = 0; i < 32; ++i) out[0][i] = rounded_to_bf16(x[i]);
    return;
  }
  for (int i = 0; i < 32; ++i) {
    const Bf16Parts of = bf16_parts(x[i]);
    out[0][i] = of.low;
    out[1][i] = of.middle;
    out[2][i] = of.high;
  }
}

/// Calls store(block, row, parts) for all blocks of all rows; what is missing is zero.
template <class Store>
inline void take_blocks(const float* data, std::size_t stride, std::size_t row_count, std::size_t inputs, std::size_t parts,
                        std::size_t padded_rows, Store store) {
  std::uint16_t block[3][32];
  for (std::size_t r = 0; r < padded_rows; ++r)
    for (std::size_t k = 0; k < inputs; k += 32) {
      const std::size_t count = r >= row_count ? 0 : inputs - k < 32 ? inputs - k : 32;
      float padded[32] = {};
      const float* source = data + r * stride + k;
      if (count != 32) {
        for (std::size_t i = 0; i < count; ++i) padded[i] = source[i];
        source = padded;
      }
      take_block(source, parts, block);
      store(k / 32, r, block);
    }
}

}  // namespace
}  // namespace kv::simd
