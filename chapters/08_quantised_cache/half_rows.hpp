#pragma once
/// @file
/// Rows in 16-bit floats: every number for itself.
#include "chapters/08_quantised_cache/row_format.hpp"
#include "common/tensor/dtype.hpp"

namespace kv {

/// Every number rounded to nearest, ties to even. NaN and infinity stay what they are. bf16 has the
/// range of f32 and 8 bits of precision, f16 has 11 bits and ends at 65504: what rounds to more
/// becomes infinity.
class HalfRows : public RowFormat {
 public:
  /// @param type bf16 or f16  @throws std::invalid_argument for another
  HalfRows(DType type, index_t width);

  index_t bytes() const override { return 2 * width(); }
  void store(std::span<const float> row, std::byte* out) const override;
  void widen(const StoredRows& rows, float* out, index_t stride) const override;

 private:
  DType type_;
};

}  // namespace kv
