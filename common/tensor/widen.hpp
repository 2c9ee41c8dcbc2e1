#pragma once
/// @file
/// Rows of numbers in smaller formats, widened to f32 where they are needed. All instruction sets
/// give equal bits.
#include "common/tensor/dtype.hpp"

namespace kv {

/// out[i] = factor * number i, for numbers that lie side by side. Widening is exact, NaN stays NaN,
/// the product is rounded once.
/// @param type bf16, f16, f8_e4m3 or i8  @param numbers out.size() of them, aligned as numbers of
/// that type
/// @throws std::invalid_argument for another type
void widen(DType type, const std::byte* numbers, float factor, std::span<float> out);

/// Unsigned integers of 4 bits that share a factor and an offset among 32:
/// out[i] = factors[i / 32] * code i + offsets[i / 32], rounded once.
/// @param codes two to a byte, the even one in the low bits
/// @param factors (ceil(size / 32))  @param offsets as many
void widen_codes_in_groups(const std::byte* codes, const float* factors, const float* offsets,
                           std::span<float> out);

/// The same, where every code has a factor and an offset of its own: out[i] = factors[i] * code i +
/// offsets[i].
void widen_codes(const std::byte* codes, const float* factors, const float* offsets,
                 std::span<float> out);

}  // namespace kv
