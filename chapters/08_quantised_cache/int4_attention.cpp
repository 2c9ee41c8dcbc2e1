#include "chapters/08_quantised_cache/int4_attention.hpp"

#include <cmath>

#include "chapters/01_uncached_attention/attend.hpp"

namespace kv {

Int4Attention::Int4Attention(std::shared_ptr<const HeadProjection> projection, const Limits& limits)
    : projection_(std::move(projection)) {
  for (index_t b = 0; b < limits.sequences; ++b)
    caches_.emplace_back(projection_->sizes(), limits.capacity);
}

// [forward]
Tensor<2> Int4Attention::forward(const Tensor<2>& x, const Batch& batch) {
  require_room(batch);
  const Heads heads = projection_->project(x, positions(batch, *this));
  const HeadSizes sizes = projection_->sizes();
  const float scale = 1.0f / std::sqrt(static_cast<float>(sizes.key_width));
  Tensor<3> mixed = empty<3>({x.shape(0), sizes.query_heads, sizes.value_width});
  for (const Segment& segment : batch) {
    Int4Cache& cache = caches_.at(segment.sequence);
    const index_t end = segment.first_row + segment.rows;
    for (index_t first = segment.first_row, count; first < end; first += count) {
      count = std::min(cache.room_in_group(), end - first);
      const CausalMask mask{.position = cache.length(), .window = sizes.window};
      cache.append(heads.keys, heads.values, first, count);
      put_rows(mixed, first, attend(rows(heads.queries, first, count), cache, mask, scale));
    }
  }
  return projection_->output(mixed);
}
// [forward]

}  // namespace kv
