#pragma once
/// @file
/// Rows in numbers of 8 bits with a scale, made for the row as it is stored.
#include "chapters/08_quantised_cache/row_format.hpp"
#include "common/tensor/dtype.hpp"

namespace kv {

/// The numbers of a row in runs of `run`, each with a scale of its own:
/// \f[ s = \frac{\max_i |x_i|}{m}, \quad c_i = \operatorname{round}(x_i / s), \quad
///     \hat x_i = s\,c_i \f]
/// with m = 448 for e4m3 and 127 for 8-bit integers. Scale, quotient and product are in f32;
/// rounding is to the nearest number of the format, ties to even, and never beyond +-m. First all
/// numbers, then all scales.
///
/// A run of zeros has scale 0 and is read back as zeros. So is a run whose scale vanishes: all
/// below m * 2^-150. A run with NaN or infinity in it has no scale: all of it is read back as NaN,
/// so that what was broken stays broken for all to see.
/// @see FlashMLA, whose rows for latents are runs of 128, github.com/deepseek-ai/FlashMLA
class ScaledRows : public RowFormat {
 public:
  /// @param type f8_e4m3 or i8  @param run numbers that share a scale; the last run may be shorter
  /// @throws std::invalid_argument for another type
  ScaledRows(DType type, index_t width, index_t run);

  index_t bytes() const override { return scales_at() + runs() * sizeof(float); }
  void store(std::span<const float> row, std::byte* out) const override;
  void widen(const StoredRows& rows, float* out, index_t stride) const override;
  const ScaledRows* in_integers() const override { return type_ == DType::i8 ? this : nullptr; }

  index_t run() const { return run_; }
  index_t runs() const { return (width() + run_ - 1) / run_; }
  /// Of run j of a stored row.
  float scale(const std::byte* row, index_t j) const;

 private:
  index_t scales_at() const { return (width() + 1) / 2 * 2; }
  index_t run_width(index_t j) const { return std::min(run_, width() - j * run_); }

  DType type_;
  index_t run_;
};

}  // namespace kv
