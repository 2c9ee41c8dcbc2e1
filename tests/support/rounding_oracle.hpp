#pragma once
/// @file
/// The stored rows of chapter 8 once more, in double precision, from the definitions of the
/// formats: numbers are multiples of a step, and no bit is looked at.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "chapters/08_quantised_cache/cache_formats.hpp"

namespace kv::test::oracle {

using Numbers = std::vector<double>;
inline constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// To the nearest float with `precision` bits and exponents from `least` on, ties to even; beyond
/// `most` infinity.
inline double to_float(double x, int precision, int least, double most) {
  if (!std::isfinite(x) || x == 0) return x;
  const double step = std::ldexp(1.0, std::max(std::ilogb(x), least) - precision + 1);
  const double rounded = std::nearbyint(x / step) * step;
  return std::abs(rounded) > most ? std::copysign(std::numeric_limits<double>::infinity(), x)
                                  : rounded;
}
inline double to_f32(double x) { return static_cast<double>(static_cast<float>(x)); }
inline double to_bf16(double x) { return to_float(x, 8, -126, 0x1.fep127); }
inline double to_f16(double x) { return to_float(x, 11, -14, 65504); }
inline double to_e4m3(double x) { return std::clamp(to_float(x, 4, -6, 1e9), -448.0, 448.0); }
inline double to_i8(double x) { return std::clamp(std::nearbyint(x), -127.0, 127.0); }

inline bool all_finite(const Numbers& x) {
  return std::ranges::all_of(x, [](double each) { return std::isfinite(each); });
}

/// Numbers that share a scale in 8 bits.
inline Numbers scaled(const Numbers& x, double most, double (*round)(double)) {
  double largest = 0;
  for (const double each : x) largest = std::max(largest, std::abs(each));
  const double scale = to_f32(largest / most);
  Numbers result;
  for (const double each : x)
    result.push_back(!all_finite(x) ? not_a_number
                     : scale == 0   ? 0
                                    : to_f32(round(to_f32(each / scale)) * scale));
  return result;
}

/// The scale of each run of a row in 8-bit integers.
inline Numbers scales_of_i8(const Numbers& row, std::size_t run) {
  Numbers result;
  for (std::size_t first = 0; first < row.size(); first += run) {
    double largest = 0;
    for (std::size_t i = first; i < std::min(first + run, row.size()); ++i)
      largest = std::max(largest, std::abs(row[i]));
    result.push_back(to_f32(largest / 127));
  }
  return result;
}

/// What 8-bit integers are multiplied with: numbers in f32, rounded to 16 bits.
inline Numbers in_16_bits(const Numbers& x) {
  double largest = 0;
  for (const double each : x) largest = std::max(largest, std::abs(each));
  const double factor = to_f32(32767 / largest), unit = to_f32(largest / 32767);
  Numbers result;
  for (const double each : x)
    result.push_back(!all_finite(x)          ? not_a_number
                     : largest < 0x1p-100 ? 0
                                          : std::nearbyint(to_f32(each * factor)) * unit);
  return result;
}

/// Numbers that share a step and an offset in 4 bits.
inline Numbers in_4_bits(const Numbers& x) {
  const double least = std::ranges::min(x), most = std::ranges::max(x);
  const double step = to_f16(to_f32(to_f32(most - least) / 15)), offset = to_f16(least);
  const bool has_scale = all_finite(x) && std::isfinite(step) && std::isfinite(offset);
  Numbers result;
  for (const double each : x) {
    const double code =
        step > 0 ? std::clamp(std::nearbyint(to_f32(to_f32(each - offset) / step)), 0.0, 15.0) : 0;
    result.push_back(has_scale ? to_f32(code * step + offset) : not_a_number);
  }
  return result;
}

/// A row in runs.
template <class Round>
Numbers in_runs(const Numbers& row, index_t run, Round round) {
  Numbers result;
  for (index_t first = 0; first < row.size(); first += run) {
    const auto begin = row.begin() + static_cast<std::ptrdiff_t>(first);
    const Numbers part = round(
        Numbers(begin, begin + static_cast<std::ptrdiff_t>(std::min(run, row.size() - first))));
    result.insert(result.end(), part.begin(), part.end());
  }
  return result;
}

/// What is read back of a row.  @param run numbers that share a scale in 8 bits
inline Numbers rounded(CacheFormat format, const Numbers& row, index_t run) {
  switch (format) {
    case CacheFormat::bf16:
      return in_runs(row, 1, [](const Numbers& x) { return Numbers{to_bf16(x[0])}; });
    case CacheFormat::f16:
      return in_runs(row, 1, [](const Numbers& x) { return Numbers{to_f16(x[0])}; });
    case CacheFormat::fp8:
      return in_runs(row, run, [](const Numbers& x) { return scaled(x, 448, to_e4m3); });
    case CacheFormat::int8:
      return in_runs(row, run, [](const Numbers& x) { return scaled(x, 127, to_i8); });
    case CacheFormat::int4: return in_runs(row, 32, in_4_bits);
  }
  throw std::invalid_argument("rounded: unknown format");
}

}  // namespace kv::test::oracle
