#include "chapters/08_quantised_cache/code_block.hpp"

#include "common/tensor/attention_sums.hpp"
#include "common/tensor/memory.hpp"

namespace kv {

void CodeBlock::Codes::clear(const ScaledRows& format) {
  rows.clear();
  scales.resize(format.runs() * block_rows);
  width = format.width();
  run = format.run();
}

void CodeBlock::Codes::add(const ScaledRows& format, const StoredRows& piece) {
  for (index_t s = 0; s < piece.count; ++s) {
    const std::byte* const row = piece.data + s * piece.stride;
    for (index_t i = format.width(); i < piece.stride; i += 64)
      __builtin_prefetch(row + 24 * piece.stride + i);  // scales and what lies behind them
    for (index_t j = 0; j < format.runs(); ++j)
      scales[j * block_rows + rows.size()] = format.scale(row, j);
    rows.push_back(reinterpret_cast<const std::int8_t*>(row));
  }
}

CodesView CodeBlock::Codes::view(index_t first, index_t count) const {
  return {std::span(rows).subspan(first, count), width, run, scales.data() + first, block_rows};
}

void CodeBlock::read(const RowFormats& formats, const RowLayout& layout,
                     std::span<const StoredRows> pieces) {
  const ScaledRows& first = *formats.first->in_integers();
  const ScaledRows* const second = formats.second->in_integers();
  rotated_width_ = layout.key_width - first.width();
  keys_.clear(first);
  if (rotated_width_ == 0) values_.clear(*second);
  for (const StoredRows& piece : pieces) {
    const index_t before = keys_.rows.size();
    keys_.add(first, piece);
    if (rotated_width_ == 0) {
      values_.add(*second, formats.second_of(piece));
    } else {
      rotated_.resize(keys_.rows.size() * rotated_width_);
      formats.second->widen(formats.second_of(piece), &rotated_[before * rotated_width_],
                            rotated_width_);
    }
  }
}

// [sums]
void CodeBlock::scores(const RowsView& queries, index_t first, index_t count, float* scores,
                       index_t stride) const {
  const index_t D = keys_.width, P = rotated_width_;
  dot_codes({queries.data, queries.stride, queries.count, D}, keys_.view(first, count), scores,
            stride);
  if (P == 0) return;
  thread_local Scratch scratch;
  float* const rotated = scratch.floats(queries.count * count);
  dot_rows({queries.data + D, queries.stride, queries.count, P},
           {&rotated_[first * P], P, count, P}, rotated, count);
  for (index_t q = 0; q < queries.count; ++q)
    for (index_t s = 0; s < count; ++s) scores[q * stride + s] += rotated[q * count + s];
}

void CodeBlock::add_weighted(const RowsView& weights, index_t first, index_t count, float* out,
                             index_t stride) const {
  add_weighted_codes(weights, (rotated_width_ == 0 ? values_ : keys_).view(first, count), out,
                     stride);
}
// [sums]

}  // namespace kv
