#include "chapters/08_quantised_cache/int4_rows.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "common/tensor/widen.hpp"

namespace kv {
namespace {

constexpr float largest_code = 15.0f;
constexpr std::uint16_t nan_f16 = 0x7e00;

bool is_finite(std::uint16_t half) { return std::isfinite(from_f16(half)); }

}  // namespace

// [scale]
Int4Scale::Int4Scale(const float* x, index_t stride, index_t count) {
  float least = x[0], most = x[0];
  bool all_finite = true;
  for (index_t i = 0; i < count; ++i) {
    const float number = x[i * stride];
    all_finite = all_finite && std::isfinite(number);
    least = std::min(least, number);
    most = std::max(most, number);
  }
  step = to_f16((most - least) / largest_code);
  offset = to_f16(least);
  if (!all_finite || !is_finite(step) || !is_finite(offset)) step = offset = nan_f16;
}

std::uint8_t Int4Scale::code(float x) const {
  const float wide_step = from_f16(step);
  if (!(wide_step > 0.0f)) return 0;  // equal numbers, or none
  const float code = std::nearbyint((x - from_f16(offset)) / wide_step);
  return static_cast<std::uint8_t>(std::clamp(code, 0.0f, largest_code));
}
// [scale]

void put_code(std::byte* codes, index_t i, std::uint8_t code) {
  std::byte& pair = codes[i / 2];
  pair = i % 2 == 0 ? std::byte{code} : pair | std::byte(code << 4);
}

void Int4Rows::store(std::span<const float> row, std::byte* out) const {
  out[scales_at() - 1] = {};  // may belong to no code
  for (index_t j = 0; j < runs(); ++j) {
    const index_t first = j * run, count = std::min(run, width() - first);
    const Int4Scale scale(&row[first], 1, count);
    for (index_t i = first; i < first + count; ++i) put_code(out, i, scale.code(row[i]));
    std::memcpy(out + scales_at() + 2 * j, &scale.step, 2);
    std::memcpy(out + scales_at() + 2 * (runs() + j), &scale.offset, 2);
  }
}

void Int4Rows::widen(const StoredRows& rows, float* out, index_t stride) const {
  thread_local std::vector<float> scales;
  scales.resize(2 * runs());
  for (index_t s = 0; s < rows.count; ++s) {
    const std::byte* const row = rows.data + s * rows.stride;
    kv::widen(DType::f16, row + scales_at(), 1.0f, scales);
    widen_codes_in_groups(row, scales.data(), scales.data() + runs(), {out + s * stride, width()});
  }
}

}  // namespace kv
