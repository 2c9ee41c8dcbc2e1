#include "chapters/01_uncached_attention/row_source.hpp"

#include "common/tensor/attention_sums.hpp"

namespace kv {
namespace {

/// Calls each(piece, offset) for what rows first ... first+count-1 of a block are made of.
template <class Each>
void for_pieces(const List<SharedRows>& pieces, index_t first, index_t count, Each each) {
  index_t offset = 0;
  for (const auto& [keys, values] : pieces) {
    if (first < keys.count && offset < count) {
      const index_t rows = std::min(keys.count - first, count - offset);
      each(SharedRows{slice(keys, first, rows), slice(values, first, rows)}, offset);
      offset += rows;
      first = 0;
    } else {
      first -= std::min(first, keys.count);
    }
  }
}

}  // namespace

void RowBlock::scores(const RowsView& queries, index_t first, index_t count, float* scores, index_t stride) const {
  for_pieces(pieces, first, count, [&](const SharedRows& piece, index_t offset) {
    dot_rows(queries, piece.keys, scores + offset, stride);
  });
}

void RowBlock::add_weighted(const RowsView& weights, index_t first, index_t count, float* out, index_t stride) const {
  for_pieces(pieces, first, count, [&](const SharedRows& piece, index_t offset) {
    const RowsView own{weights.data + offset, weights.stride, weights.count, piece.values.count};
    next.data != nullptr ? add_weighted_rows(own, piece.values, next, out, stride) : add_weighted_rows(own, piece.values, out, stride);
  });
}

ContiguousRows::ContiguousRows(const Tensor<3>& keys, const Tensor<3>& values, index_t S)
    : first_head_{head_rows(keys, 0, S), head_rows(values, 0, S)}, heads_(keys.shape(1)) {}

const RowBlock& ContiguousRows::block(index_t g, index_t first, index_t count) const {
  thread_local RowBlock block;
  SharedRows rows = first_head_;
  rows.keys.data += g * rows.keys.width;
  rows.values.data += g * rows.values.width;
  block.pieces.assign(1, {slice(rows.keys, first, count), slice(rows.values, first, count)});
  return block;
}

}  // namespace kv
