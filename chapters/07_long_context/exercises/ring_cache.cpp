// An exercise, in place of chapters/07_long_context/ring_cache.cpp: see exercises.md
// Tests: 07_long_context_test
#include "chapters/07_long_context/ring_cache.hpp"

namespace kv {

RingCache::RingCache(const RowLayout& layout, index_t window, index_t sinks, index_t capacity)
    : layout_(layout),
      window_(window),
      sinks_(std::min(sinks, capacity)),
      ring_(std::max<index_t>(1, window > capacity ? capacity - sinks_
                                                   : std::min(capacity - sinks_, window - 1 + ring_piece))),
      rows_(empty<3>({sinks_ + ring_, layout.heads, layout.width()})) {}

void RingCache::append(const Tensor<3>& keys, const Tensor<3>& values, index_t first,
                       index_t count) {
  require_shape("append: keys (N,G,D)", keys, {keys.shape(0), layout_.heads, layout_.key_width});
  require_shape("append: values (N,G,W)", values,
                {keys.shape(0), layout_.heads, layout_.value_width});
  // --- yours ---
  // keys (N,G,D), values (N,G,W): rows first ... first+count-1 to new_row(g), the value at layout_.value_offset.
  throw std::logic_error("exercise 07 ring_cache: append is yours to write");
  // --- end ---
}

std::span<float> RingCache::new_row(index_t g) { return row(rows_, slot(length_), g); }

void RingCache::append(const Tensor<2>& rows, index_t first, index_t count) {
  require_shape("append: rows (N,R+P)", rows, {rows.shape(0), layout_.width()});
  // --- yours ---
  // rows (N,R+P), for the one head that there is.
  throw std::logic_error("exercise 07 ring_cache: append is yours to write");
  // --- end ---
}

const RowBlock& RingCache::block(index_t g, index_t first, index_t count) const {
  thread_local RowBlock block;
  block.pieces.clear();
  const RowsView keys{rows_.data() + g * layout_.width(), layout_.heads * layout_.width(),
                      sinks_ + ring_, layout_.key_width};
  const RowsView values{keys.data + layout_.value_offset, keys.stride, keys.count,
                        layout_.value_width};
  // --- yours ---
  // keys, values: all slots of head g. Rows first ... first+count-1 of the text, ascending, in pieces that lie
  // together.
  throw std::logic_error("exercise 07 ring_cache: the pieces are yours to find");
  // --- end ---
  return block;
}

index_t RingCache::truncate(index_t length) {
  require_held(length, length_);
  // --- yours ---
  // length_ = length if the next token still finds all that it sees, be it sinks alone, else 0. @return length_
  throw std::logic_error("exercise 07 ring_cache: truncate is yours to write");
  // --- end ---
}

StateBytes RingCache::bytes() const {
  const std::size_t slot_bytes = layout_.heads * layout_.width() * sizeof(float);
  return {.allocated = (sinks_ + ring_) * slot_bytes, .used = std::min(length_, sinks_ + ring_) * slot_bytes};
}

}  // namespace kv
