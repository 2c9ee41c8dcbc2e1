#include "chapters/08_quantised_cache/scaled_rows.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "common/tensor/widen.hpp"

namespace kv {
namespace {

constexpr float largest_e4m3 = 448.0f, largest_i8 = 127.0f;

/// NaN when there is no scale.
float scale_of(std::span<const float> numbers, float largest_code) {
  float largest = 0.0f;
  for (const float x : numbers) {
    if (!std::isfinite(x)) return std::numeric_limits<float>::quiet_NaN();
    largest = std::max(largest, std::abs(x));
  }
  return largest / largest_code;
}

std::byte to_i8(float quotient) {
  const float code = std::clamp(std::nearbyint(quotient), -largest_i8, largest_i8);
  return static_cast<std::byte>(static_cast<std::int8_t>(code));
}

}  // namespace

ScaledRows::ScaledRows(DType type, index_t width, index_t run)
    : RowFormat(width), type_(type), run_(run) {
  if (type != DType::f8_e4m3 && type != DType::i8)
    throw std::invalid_argument("ScaledRows: " + std::string(name(type)) + " has not 8 bits");
}

// [store]
void ScaledRows::store(std::span<const float> row, std::byte* out) const {
  const bool is_float = type_ == DType::f8_e4m3;
  out[scales_at() - 1] = {};  // may belong to no code
  for (index_t j = 0; j < runs(); ++j) {
    const std::span<const float> numbers = row.subspan(j * run_, run_width(j));
    const float scale = scale_of(numbers, is_float ? largest_e4m3 : largest_i8);
    for (index_t i = 0; i < numbers.size(); ++i) {
      const float quotient =
          scale > 0.0f ? numbers[i] / scale : 0.0f;  // neither of zeros nor of NaN
      out[j * run_ + i] = is_float ? std::byte{to_f8_e4m3(quotient)} : to_i8(quotient);
    }
    std::memcpy(out + scales_at() + j * sizeof scale, &scale, sizeof scale);
  }
}
// [store]

float ScaledRows::scale(const std::byte* row, index_t j) const {
  float scale;
  std::memcpy(&scale, row + scales_at() + j * sizeof scale, sizeof scale);
  return scale;
}

// [widen]
void ScaledRows::widen(const StoredRows& rows, float* out, index_t stride) const {
  for (index_t s = 0; s < rows.count; ++s) {
    const std::byte* const row = rows.data + s * rows.stride;
    for (index_t j = 0; j < runs(); ++j)
      kv::widen(type_, row + j * run_, scale(row, j), {out + s * stride + j * run_, run_width(j)});
  }
}
// [widen]

}  // namespace kv
