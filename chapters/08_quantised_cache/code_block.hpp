#pragma once
/// @file
/// Attention over 8-bit integers as they are stored: no row is widened, the queries and the weights
/// are rounded to 16 bits in its place.
#include "chapters/01_uncached_attention/row_source.hpp"
#include "chapters/07_long_context/row_layout.hpp"
#include "chapters/08_quantised_cache/scaled_rows.hpp"
#include "common/tensor/code_sums.hpp"

namespace kv {

/// Rows of one head, wherever they lie. Of heads, keys and values are integers; of a latent row the
/// plain part is, both as key and as value, and the rotated part is widened.
class CodeBlock : public RowBlock {
 public:
  /// REQUIRES: formats.first is in integers; of heads the second one, too
  void read(const RowFormats& formats, const RowLayout& layout, std::span<const StoredRows> pieces);

  void scores(const RowsView& queries, index_t first, index_t count, float* scores,
              index_t stride) const override;
  void add_weighted(const RowsView& weights, index_t first, index_t count, float* out,
                    index_t stride) const override;

 private:
  /// Where the codes of each row begin, and their scales.
  struct Codes {
    List<const std::int8_t*> rows;
    List<float> scales;  // [run][block_rows]
    index_t width, run;

    void clear(const ScaledRows& format);
    void add(const ScaledRows& format, const StoredRows& piece);
    CodesView view(index_t first, index_t count) const;
  };

  Codes keys_, values_;    // of a latent row keys_ are both
  List<float> rotated_;    // (S,P)
  index_t rotated_width_;  // P; of heads 0
};

}  // namespace kv
