// An exercise, in place of chapters/07_long_context/streaming_attention.cpp: see exercises.md
// Tests: 07_long_context_test
#include "chapters/07_long_context/streaming_attention.hpp"

#include <cmath>

#include "chapters/07_long_context/attend_ring.hpp"

namespace kv {

List<index_t> positions_in_cache(const List<index_t>& positions, const StreamingSizes& sizes) {
  // --- yours ---
  // Where each token stands among the rows that it sees.
  throw std::logic_error("exercise 07 streaming_attention: positions are yours to write");
  // --- end ---
}

StreamingAttention::StreamingAttention(std::shared_ptr<const HeadProjection> projection, const Limits& limits,
                                       const StreamingSizes& sizes)
    : projection_(std::move(projection)), sizes_(sizes.in_layer(projection_->sizes().window)) {
  for (index_t b = 0; b < limits.sequences; ++b)
    caches_.emplace_back(layout_of(projection_->sizes()), sizes_.window(), sizes_.sinks, limits.capacity);
}

Tensor<2> StreamingAttention::forward(const Tensor<2>& x, const Batch& batch) {
  // --- yours ---
  // x (N,M): @return (N,M). attend_ring() takes two queries for each token: one for the rows of the window, one for
  // sinks.
  throw std::logic_error("exercise 07 streaming_attention: the two queries are yours to make");
  // --- end ---
}

StateBytes StreamingAttention::state_bytes() const { return bytes_of_all(caches_); }

}  // namespace kv
