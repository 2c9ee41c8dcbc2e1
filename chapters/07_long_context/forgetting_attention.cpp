#include "chapters/07_long_context/forgetting_attention.hpp"

#include <cmath>

namespace kv {

ForgettingAttention::ForgettingAttention(std::shared_ptr<const HeadProjection> projection, const Limits& limits, index_t room,
                                         const MakePolicy& make_policy)
    : projection_(std::move(projection)) {
  const HeadSizes sizes = projection_->sizes();
  for (index_t b = 0; b < limits.sequences; ++b)
    caches_.emplace_back(ForgettingSizes{layout_of(sizes), room, sizes.window}, make_policy);
}

// [forward]
Tensor<2> ForgettingAttention::forward(const Tensor<2>& x, const Batch& batch) {
  const Heads heads = projection_->project(x, positions(batch, *this));
  const float scale = 1.0f / std::sqrt(static_cast<float>(projection_->sizes().key_width));
  const auto append = [&](KeptRows& rows, index_t n, index_t position) {
    rows.append(heads.keys, heads.values, n, position);
  };
  return projection_->output(attend_forgetting(heads.queries, batch, caches_, scale, append));
}
// [forward]

}  // namespace kv
