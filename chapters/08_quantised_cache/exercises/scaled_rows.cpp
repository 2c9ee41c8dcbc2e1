// An exercise, in place of chapters/08_quantised_cache/scaled_rows.cpp: see exercises.md
// Tests: 08_quantised_cache_test
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
  // --- yours ---
  // The step of these numbers. NaN when one of them is no finite number.
  throw std::logic_error("exercise 08 scaled_rows: the scale is yours to write");
  // --- end ---
}

std::byte to_i8(float quotient) {
  // --- yours ---
  // The nearest of -127 ... 127, ties to even.
  throw std::logic_error("exercise 08 scaled_rows: rounding is yours to write");
  // --- end ---
}

}  // namespace

ScaledRows::ScaledRows(DType type, index_t width, index_t run)
    : RowFormat(width), type_(type), run_(run) {
  if (type != DType::f8_e4m3 && type != DType::i8)
    throw std::invalid_argument("ScaledRows: " + std::string(name(type)) + " has not 8 bits");
}

void ScaledRows::store(std::span<const float> row, std::byte* out) const {
  const bool is_float = type_ == DType::f8_e4m3;
  // --- yours ---
  // row (width): first a code for each number at out, then an f32 scale for each run at out + scales_at().
  throw std::logic_error("exercise 08 scaled_rows: store is yours to write");
  // --- end ---
}

float ScaledRows::scale(const std::byte* row, index_t j) const {
  float scale;
  std::memcpy(&scale, row + scales_at() + j * sizeof scale, sizeof scale);
  return scale;
}

void ScaledRows::widen(const StoredRows& rows, float* out, index_t stride) const {
  // --- yours ---
  // rows.count rows, rows.stride bytes apart: their numbers to out, `stride` floats apart.
  throw std::logic_error("exercise 08 scaled_rows: widen is yours to write");
  // --- end ---
}

}  // namespace kv
