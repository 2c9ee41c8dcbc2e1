#include "chapters/08_quantised_cache/code_block.hpp"

#include "common/tensor/attention_sums.hpp"
#include "common/tensor/memory.hpp"

namespace kv {
namespace {

/// How many rows ahead of their use scales, and what lies behind them, are fetched. The sums fetch
/// the codes.
constexpr index_t rows_ahead = 24;

}  // namespace

void Codes::clear(const ScaledRows& format) {
  rows_.clear();
  scales_.resize(format.runs() * block_rows);
  width_ = format.width();
  run_ = format.run();
}

void Codes::add(const ScaledRows& format, const StoredRows& piece) {
  for (index_t s = 0; s < piece.count; ++s) {
    const std::byte* const row = piece.data + s * piece.stride;
    for (index_t i = format.width(); i < piece.stride; i += 64)
      __builtin_prefetch(row + rows_ahead * piece.stride + i);
    for (index_t j = 0; j < format.runs(); ++j)
      scales_[j * block_rows + rows_.size()] = format.scale(row, j);
    rows_.push_back(reinterpret_cast<const std::int8_t*>(row));
  }
}

CodesView Codes::view(index_t first, index_t count) const {
  return {std::span(rows_).subspan(first, count), width_, run_, scales_.data() + first, block_rows};
}

void HeadCodes::read(const RowFormats& formats, std::span<const StoredRows> pieces) {
  const ScaledRows &key = *formats.first->in_integers(), &value = *formats.second->in_integers();
  keys_.clear(key);
  values_.clear(value);
  for (const StoredRows& piece : pieces) {
    keys_.add(key, piece);
    values_.add(value, formats.second_of(piece));
  }
}

// [heads]
void HeadCodes::scores(const RowsView& queries, index_t first, index_t count, float* scores,
                       index_t stride) const {
  dot_codes(queries, keys_.view(first, count), scores, stride);
}

void HeadCodes::add_weighted(const RowsView& weights, index_t first, index_t count, float* out,
                             index_t stride) const {
  add_weighted_codes(weights, values_.view(first, count), out, stride);
}
// [heads]

void LatentCodes::read(const RowFormats& formats, std::span<const StoredRows> pieces) {
  const ScaledRows& plain = *formats.first->in_integers();
  plain_.clear(plain);
  rotated_.clear();
  rotated_width_ = formats.second->width();
  for (const StoredRows& piece : pieces) {
    const index_t before = rotated_.size();
    plain_.add(plain, piece);
    rotated_.resize(before + piece.count * rotated_width_);
    formats.second->widen(formats.second_of(piece), rotated_.data() + before, rotated_width_);
  }
}

// [latents]
void LatentCodes::scores(const RowsView& queries, index_t first, index_t count, float* scores,
                         index_t stride) const {
  const index_t R = plain_.width(), P = rotated_width_;
  dot_codes({queries.data, queries.stride, queries.count, R}, plain_.view(first, count), scores,
            stride);
  thread_local Scratch scratch;
  float* const rotated = scratch.floats(queries.count * count);
  dot_rows({queries.data + R, queries.stride, queries.count, P},
           {rotated_.data() + first * P, P, count, P}, rotated, count);
  for (index_t q = 0; q < queries.count; ++q)
    for (index_t s = 0; s < count; ++s) scores[q * stride + s] += rotated[q * count + s];
}

void LatentCodes::add_weighted(const RowsView& weights, index_t first, index_t count, float* out,
                               index_t stride) const {
  add_weighted_codes(weights, plain_.view(first, count), out, stride);
}
// [latents]

}  // namespace kv
