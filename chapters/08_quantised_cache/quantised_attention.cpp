#include "chapters/08_quantised_cache/quantised_attention.hpp"

#include <cmath>

#include "chapters/01_uncached_attention/attend.hpp"

namespace kv {

QuantisedAttention::QuantisedAttention(std::shared_ptr<const HeadProjection> projection,
                                       const Limits& limits, const RowFormats& formats)
    : projection_(std::move(projection)) {
  for (index_t b = 0; b < limits.sequences; ++b)
    caches_.emplace_back(formats, layout_of(projection_->sizes()), limits.capacity);
}

// [forward]
Tensor<2> QuantisedAttention::forward(const Tensor<2>& x, const Batch& batch) {
  require_room(batch);
  const Heads heads = projection_->project(x, positions(batch, *this));
  const HeadSizes sizes = projection_->sizes();
  const float scale = 1.0f / std::sqrt(static_cast<float>(sizes.key_width));
  Tensor<3> mixed = empty<3>({x.shape(0), sizes.query_heads, sizes.value_width});
  for (const auto& [sequence, first, T, position, tokens] : batch) {
    QuantisedCache& cache = caches_.at(sequence);
    const CausalMask mask{.position = cache.length(), .window = sizes.window};
    cache.append(heads.keys, heads.values, first, T);
    put_rows(mixed, first, attend(rows(heads.queries, first, T), cache, mask, scale));
  }
  return projection_->output(mixed);
}
// [forward]

}  // namespace kv
