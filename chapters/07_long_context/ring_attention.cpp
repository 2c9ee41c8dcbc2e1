#include "chapters/07_long_context/ring_attention.hpp"

#include <cmath>

#include "chapters/07_long_context/attend_ring.hpp"

namespace kv {

RingAttention::RingAttention(std::shared_ptr<const HeadProjection> projection, const Limits& limits)
    : projection_(std::move(projection)), capacity_(limits.capacity) {
  const HeadSizes sizes = projection_->sizes();
  for (index_t b = 0; b < limits.sequences; ++b)
    caches_.emplace_back(layout_of(sizes), sizes.window, 0, limits.capacity);
}

// [forward]
Tensor<2> RingAttention::forward(const Tensor<2>& x, const Batch& batch) {
  require_room(batch);
  const Heads heads = projection_->project(x, positions(batch, *this));
  const float scale = 1.0f / std::sqrt(static_cast<float>(projection_->sizes().key_width));
  return projection_->output(attend_ring(heads.queries, heads.queries, batch, caches_, scale,
                                         [&](RingCache& cache, index_t first, index_t count) {
                                           cache.append(heads.keys, heads.values, first, count);
                                         }));
}
// [forward]

void RingAttention::require_room(const Batch& batch) const {
  for (const Segment& segment : batch)
    kv::require_room(caches_.at(segment.sequence).length(), capacity_, segment.rows);
}

StateBytes RingAttention::state_bytes() const { return bytes_of_all(caches_); }

}  // namespace kv
