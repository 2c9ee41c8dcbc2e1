#pragma once
/// @file
/// Rows in e4m3 with a scale that was measured before anything was stored.
#include "chapters/08_quantised_cache/row_format.hpp"

namespace kv {

/// One scale for all rows, so none is stored: a byte a number.
/// \f[ c_i = \operatorname{round}(x_i / s), \quad \hat x_i = s\,c_i \f]
/// A number beyond 448 s is stored as 448 s: the scale was measured on other texts and may be too
/// small for this one. NaN and infinity are read back as NaN, each for itself.
class StaticRows : public RowFormat {
 public:
  /// @param scale positive and finite
  StaticRows(float scale, index_t width) : RowFormat(width), scale_(scale) {}

  index_t bytes() const override { return (width() + 1) / 2 * 2; }
  void store(std::span<const float> row, std::byte* out) const override;
  void widen(const StoredRows& rows, float* out, index_t stride) const override;

 private:
  float scale_;
};

}  // namespace kv
