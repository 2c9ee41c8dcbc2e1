#pragma once
/// @file
/// Rows in codes of 4 bits, neighbours sharing a step and an offset.
#include "chapters/08_quantised_cache/row_format.hpp"

namespace kv {

/// Step and offset with which a few numbers become codes of 4 bits.
/// \f[ o = \min_i x_i, \quad s = \frac{\max_i x_i - o}{15}, \quad
///     c_i = \operatorname{round}\frac{x_i - o}{s}, \quad \hat x_i = s\,c_i + o \f]
/// Both are f16, and codes are chosen for what they are after that rounding.
///
/// Equal numbers have step 0 and are read back as the offset: the number itself, in f16. So are
/// numbers whose step vanishes in f16, less than 4.5e-7 apart. Where NaN or infinity is among them,
/// or a step or an offset beyond f16's 65504, all are read back as NaN.
struct Int4Scale {
  std::uint16_t step = 0, offset = 0;  // f16

  /// Of numbers x[0], x[stride] ... x[(count - 1) * stride].
  Int4Scale(const float* x, index_t stride, index_t count);
  std::uint8_t code(float x) const;
};

/// Codes of a row in bytes: two each, the even one in the low bits.
void put_code(std::byte* codes, index_t i, std::uint8_t code);

/// A row for itself, in runs of 32 neighbouring numbers: codes, then steps, then offsets. 5 bits a
/// number.
class Int4Rows : public RowFormat {
 public:
  static constexpr index_t run = 32;
  using RowFormat::RowFormat;

  index_t bytes() const override { return scales_at() + 2 * runs() * sizeof(std::uint16_t); }
  void store(std::span<const float> row, std::byte* out) const override;
  void widen(const StoredRows& rows, float* out, index_t stride) const override;

 private:
  index_t runs() const { return (width() + run - 1) / run; }
  index_t scales_at() const { return (width() + 3) / 4 * 2; }
};

}  // namespace kv
