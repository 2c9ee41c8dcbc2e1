#pragma once
/// @file
/// Attention's two sums over rows of 8-bit integers, without widening them.
///
/// A row s has codes \f$ c_{s,i} \f$, -127 ... 127, and a scale \f$ \sigma_{s,j} \f$ for each run j of them. What they are multiplied
/// with is rounded to 16 bits first: numbers \f$ x_i \f$ become
/// \f[ n_i = \operatorname{round}(x_i\, f), \quad f = 32767 / m, \quad \tau = m / 32767, \quad m = \max_i |x_i| \f]
/// to the nearest integer, ties to even; f, the product and \f$ \tau \f$ are rounded to f32. With m below \f$ 2^{-100} \f$ all are
/// zero. With NaN or infinity among them \f$ \tau \f$ is NaN.
///
/// *Scores.* x is a query, and each run adds, as one FMA, in order, from zero on
/// \f[ \operatorname{f32}\Big(\sum_{i \in j} n_i\, c_{s,i}\Big)\,(\sigma_{s,j}\, \tau). \f]
/// *Values.* For each run, \f$ x_s \f$ is a query's weight of row s times \f$ \sigma_{s,j} \f$, and output i of the run grows, as one FMA, by
/// \f[ \operatorname{f32}\Big(\sum_s n_s\, c_{s,i}\Big)\, \tau. \f]
///
/// The sums are exact, so they are the same in every order, and no instruction and no blocking can change a bit. They fit in 32 bits
/// up to 516 terms: runs are cut at 512 numbers, and values add up to 128 rows at once.
#include <cstddef>
#include <cstdint>

#include "common/tensor/simd/tiles.hpp"

namespace kv::simd {

constexpr std::size_t max_code_terms = 512;  ///< of one exact sum
constexpr std::size_t max_code_rows = 128;   ///< that are added up at once

struct CodeRows {
  const std::int8_t* const* rows;  ///< where each begins
  std::size_t count, width, run;   ///< run: numbers that share a scale, the last run may be shorter
  const float* scales;             ///< of row s and run j at [j * scale_stride + s]
  std::size_t scale_stride;

  CodeRows from(std::size_t s, std::size_t n) const { return {rows + s, n, width, run, scales + s, scale_stride}; }
};

struct CodeKernels {
  /// scores[q * stride + s] = query q . row s
  void (*dot)(const Rows& queries, const CodeRows& rows, float* scores, std::size_t stride);
  /// out[q * stride + i] += sum of weights[q][s] * number i of row s. REQUIRES: rows.count <= max_code_rows
  void (*add_weighted)(const Rows& weights, const CodeRows& rows, float* out, std::size_t stride);
};

}  // namespace kv::simd
