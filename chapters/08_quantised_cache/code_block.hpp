#pragma once
/// @file
/// Attention over 8-bit integers as they are stored: no row is widened, the queries and the weights
/// are rounded to 16 bits in its place.
#include "chapters/01_uncached_attention/row_source.hpp"
#include "chapters/08_quantised_cache/scaled_rows.hpp"
#include "common/tensor/code_sums.hpp"

namespace kv {

/// Rows of 8-bit integers, wherever they lie: where the codes of each begin, and their scales.
class Codes {
 public:
  void clear(const ScaledRows& format);
  void add(const ScaledRows& format, const StoredRows& piece);
  index_t width() const { return width_; }
  CodesView view(index_t first, index_t count) const;

 private:
  List<const std::int8_t*> rows_;
  List<float> scales_;  // [run][block_rows]
  index_t width_, run_;
};

/// Of a head: its keys and its values.
class HeadCodes : public RowBlock {
 public:
  /// REQUIRES: both formats are in integers
  void read(const RowFormats& formats, std::span<const StoredRows> pieces);

  void scores(const RowsView& queries, index_t first, index_t count, float* scores,
              index_t stride) const override;
  void add_weighted(const RowsView& weights, index_t first, index_t count, float* out,
                    index_t stride) const override;

 private:
  Codes keys_, values_;
};

/// Of latent rows: the plain part, both key and value, is in integers; the rotated part, a part of
/// the key, is widened.
class LatentCodes : public RowBlock {
 public:
  /// REQUIRES: the first format is in integers
  void read(const RowFormats& formats, std::span<const StoredRows> pieces);

  void scores(const RowsView& queries, index_t first, index_t count, float* scores,
              index_t stride) const override;
  void add_weighted(const RowsView& weights, index_t first, index_t count, float* out,
                    index_t stride) const override;

 private:
  Codes plain_;
  List<float> rotated_;  // (S,P)
  index_t rotated_width_;
};

}  // namespace kv
