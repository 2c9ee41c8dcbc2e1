#include "chapters/07_long_context/ring_cache.hpp"

namespace kv {

RingCache::RingCache(const RowLayout& layout, index_t window, index_t sinks, index_t capacity)
    : layout_(layout),
      window_(window),
      sinks_(std::min(sinks, capacity)),
      ring_(std::max<index_t>(1, window > capacity ? capacity - sinks_
                                                   : std::min(capacity - sinks_, window - 1 + ring_piece))),
      rows_(empty<3>({sinks_ + ring_, layout.heads, layout.width()})) {}

// [append]
void RingCache::append(const Tensor<3>& keys, const Tensor<3>& values, index_t first,
                       index_t count) {
  require_shape("append: keys (N,G,D)", keys, {keys.shape(0), layout_.heads, layout_.key_width});
  require_shape("append: values (N,G,W)", values,
                {keys.shape(0), layout_.heads, layout_.value_width});
  for (index_t n = first; n < first + count; ++n, ++length_)
    for (index_t g = 0; g < layout_.heads; ++g) {
      std::ranges::copy(row(keys, n, g), new_row(g).begin());
      std::ranges::copy(row(values, n, g), new_row(g).subspan(layout_.value_offset).begin());
    }
}

std::span<float> RingCache::new_row(index_t g) { return row(rows_, slot(length_), g); }
// [append]

void RingCache::append(const Tensor<2>& rows, index_t first, index_t count) {
  require_shape("append: rows (N,R+P)", rows, {rows.shape(0), layout_.width()});
  for (index_t n = first; n < first + count; ++n, ++length_) std::ranges::copy(row(rows, n), new_row(0).begin());
}

// [block]
const RowBlock& RingCache::block(index_t g, index_t first, index_t count) const {
  thread_local RowBlock block;
  block.pieces.clear();
  const RowsView keys{rows_.data() + g * layout_.width(), layout_.heads * layout_.width(),
                      sinks_ + ring_, layout_.key_width};
  const RowsView values{keys.data + layout_.value_offset, keys.stride, keys.count,
                        layout_.value_width};
  for (index_t s = first; s < first + count;) {
    const index_t at = slot(s),
                  end = s < sinks_ ? sinks_ : sinks_ + ring_;  // where the piece ends at the latest
    const index_t together = std::min(end - at, first + count - s);
    block.pieces.push_back({slice(keys, at, together), slice(values, at, together)});
    s += together;
  }
  return block;
}
// [block]

// [truncate]
index_t RingCache::truncate(index_t length) {
  require_held(length, length_);
  const index_t overwritten =
      length_ > sinks_ + ring_ ? length_ - ring_ : 0;  // rows below this, but for the sinks
  length_ = std::min(length_, length);
  const index_t seen_from = std::max(mask()(0).first, sinks_);
  return length_ = seen_from >= overwritten || length <= sinks_ ? length : 0;
}
// [truncate]

StateBytes RingCache::bytes() const {
  const std::size_t slot_bytes = layout_.heads * layout_.width() * sizeof(float);
  return {.allocated = (sinks_ + ring_) * slot_bytes, .used = std::min(length_, sinks_ + ring_) * slot_bytes};
}

}  // namespace kv
