#include "common/tensor/dtype.hpp"

#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace kv {
namespace {

std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }
float number(std::uint32_t bits) { return std::bit_cast<float>(bits); }

/// value / 2^shift, rounded to nearest, ties to even.
std::uint32_t shift_and_round(std::uint32_t value, int shift) {
  if (shift > 31) return 0;
  const std::uint32_t half = 1u << (shift - 1), even = value >> shift & 1u;
  return (value + half - 1 + even) >> shift;
}

}  // namespace

index_t element_size(DType type) {
  switch (type) {
    case DType::f32: return 4;
    case DType::bf16:
    case DType::f16: return 2;
    case DType::f8_e4m3:
    case DType::i8: return 1;
  }
  throw std::invalid_argument("element_size: unknown dtype");
}

std::string_view name(DType type) {
  switch (type) {
    case DType::f32: return "f32";
    case DType::bf16: return "bf16";
    case DType::f16: return "f16";
    case DType::f8_e4m3: return "f8_e4m3";
    case DType::i8: return "i8";
  }
  throw std::invalid_argument("name: unknown dtype");
}

float from_bf16(std::uint16_t bits) { return number(std::uint32_t{bits} << 16); }

float from_f16(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16, magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) return number(sign | 0x7f800000u | magnitude << 13);  // infinity, NaN
  // Moved to their place in an f32, the bits say 2^-112 of the number, denormals included.
  return number(sign | bits(number(magnitude << 13) * 0x1p112f));
}

float from_f8_e4m3(std::uint8_t byte) {
  const std::uint32_t sign = (byte & 0x80u) << 24, magnitude = byte & 0x7fu;
  if (magnitude == 0x7fu) return number(sign | 0x7fc00000u);
  return number(sign | bits(number(magnitude << 20) * 0x1p120f));
}

std::uint16_t to_bf16(float value) {
  if (std::isnan(value)) return static_cast<std::uint16_t>(bits(value) >> 16 | 0x40u);  // stays NaN: set a bit that is kept
  return static_cast<std::uint16_t>(shift_and_round(bits(value), 16));
}

std::uint16_t to_f16(float value) {
  const std::uint32_t sign = bits(value) >> 16 & 0x8000u, magnitude = bits(value) & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and above: infinity
  if (magnitude >= 0x38800000u)                                                     // 2^-14 and above: normal
    return static_cast<std::uint16_t>(sign | shift_and_round(magnitude - (112u << 23), 13));
  // Denormal: a multiple of 2^-24. The mantissa with its leading one counts units of 2^(exponent - 150).
  const int exponent = static_cast<int>(magnitude >> 23);
  const std::uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  return static_cast<std::uint16_t>(sign | (exponent == 0 ? 0u : shift_and_round(mantissa, 126 - exponent)));
}

std::uint8_t to_f8_e4m3(float value) {
  const std::uint32_t sign = bits(value) >> 24 & 0x80u, magnitude = bits(value) & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint8_t>(sign | 0x7fu);
  if (magnitude >= bits(448.0f)) return static_cast<std::uint8_t>(sign | 0x7eu);
  if (magnitude >= 0x3c800000u)  // 2^-6 and above: normal
    return static_cast<std::uint8_t>(sign | shift_and_round(magnitude - (120u << 23), 20));
  // Denormal: a multiple of 2^-9, as in to_f16.
  const int exponent = static_cast<int>(magnitude >> 23);
  const std::uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  return static_cast<std::uint8_t>(sign | (exponent == 0 ? 0u : shift_and_round(mantissa, 141 - exponent)));
}

}  // namespace kv
