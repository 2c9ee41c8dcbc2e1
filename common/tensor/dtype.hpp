#pragma once
/// @file
/// The number formats of checkpoints. All are widened to f32 exactly; nothing is computed in them.
#include <cstdint>
#include <string_view>

#include "common/tensor/tensor.hpp"

namespace kv {

enum class DType { f32, bf16, f16, f8_e4m3, i8 };

/// Bytes of one element.
index_t element_size(DType type);
/// "bf16"
std::string_view name(DType type);

/// Exact widening. NaN stays NaN; e4m3 has no infinity and its NaN is 0x7f and 0xff.
float from_bf16(std::uint16_t bits);
float from_f16(std::uint16_t bits);
float from_f8_e4m3(std::uint8_t bits);
/// Round to nearest, ties to even; NaN stays NaN.
std::uint16_t to_bf16(float value);
std::uint16_t to_f16(float value);
/// Beyond +-448 it stays at +-448: e4m3 has no infinity.
std::uint8_t to_f8_e4m3(float value);

}  // namespace kv
