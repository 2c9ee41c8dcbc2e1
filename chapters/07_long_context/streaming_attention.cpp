#include "chapters/07_long_context/streaming_attention.hpp"

#include <cmath>

#include "chapters/07_long_context/attend_ring.hpp"

namespace kv {

List<index_t> positions_in_cache(const List<index_t>& positions, const StreamingSizes& sizes) {
  List<index_t> result;
  for (const index_t position : positions) result.push_back(sizes.position_in_cache(position));
  return result;
}

StreamingAttention::StreamingAttention(std::shared_ptr<const HeadProjection> projection, const Limits& limits,
                                       const StreamingSizes& sizes)
    : projection_(std::move(projection)), sizes_(sizes.in_layer(projection_->sizes().window)) {
  for (index_t b = 0; b < limits.sequences; ++b)
    caches_.emplace_back(layout_of(projection_->sizes()), sizes_.window(), sizes_.sinks, limits.capacity);
}

// [forward]
Tensor<2> StreamingAttention::forward(const Tensor<2>& x, const Batch& batch) {
  const List<index_t> at = positions(batch, *this),
                      in_cache = positions_in_cache(at, sizes_);
  const Heads heads = projection_->project(x, at);
  const Tensor<3> sink_queries = at == in_cache ? heads.queries : projection_->queries(x, in_cache);
  const float scale = 1.0f / std::sqrt(static_cast<float>(projection_->sizes().key_width));
  return projection_->output(attend_ring(heads.queries, sink_queries, batch, caches_, scale,
                                         [&](RingCache& cache, index_t first, index_t count) {
                                           cache.append(heads.keys, heads.values, first, count);
                                         }));
}
// [forward]

StateBytes StreamingAttention::state_bytes() const { return bytes_of_all(caches_); }

}  // namespace kv
