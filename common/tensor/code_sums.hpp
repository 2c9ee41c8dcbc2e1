#pragma once
/// @file
/// Attention's two sums over rows of 8-bit integers. What is rounded, and how, says simd/codes.hpp: bits are the same on every
/// instruction set.
#include "common/tensor/tensor.hpp"

namespace kv {

/// Rows of codes, wherever each lies.
struct CodesView {
  std::span<const std::int8_t* const> rows;
  index_t width, run;     ///< run: numbers of a row that share a scale; the last run may be shorter
  const float* scales;    ///< of row s and run j at [j * scale_stride + s]
  index_t scale_stride;
};

/// scores[q * stride + s] = query q . row s.  @throws ShapeError when the widths differ
void dot_codes(const RowsView& queries, const CodesView& rows, float* scores, index_t stride);
/// out[q * stride + i] += sum over s of weights[q][s] * number i of row s, for up to 128 rows.
/// @throws ShapeError when there are not as many weights as rows, std::invalid_argument for more rows
void add_weighted_codes(const RowsView& weights, const CodesView& rows, float* out, index_t stride);

}  // namespace kv
