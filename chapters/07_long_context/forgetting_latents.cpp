#include "chapters/07_long_context/forgetting_latents.hpp"

#include <cmath>

namespace kv {

ForgettingLatents::ForgettingLatents(std::shared_ptr<const LatentProjection> projection, Absorption absorption,
                                     const Limits& limits, index_t room, const MakePolicy& make_policy)
    : projection_(std::move(projection)), absorption_(std::move(absorption)) {
  for (index_t b = 0; b < limits.sequences; ++b)
    caches_.emplace_back(ForgettingSizes{layout_of(projection_->latent_sizes()), room}, make_policy);
}

// [forward]
Tensor<2> ForgettingLatents::forward(const Tensor<2>& x, const Batch& batch) {
  const List<index_t> at = positions(batch, *this);
  const Tensor<2> latents = projection_->latents(x, at);
  const Tensor<3> queries = absorption_.absorb(projection_->queries(x, at));
  const float scale = 1.0f / std::sqrt(static_cast<float>(projection_->latent_sizes().key_width()));
  const auto append = [&](KeptRows& rows, index_t n, index_t position) {
    rows.append(latents, n, position);
  };
  return projection_->output(
      absorption_.lift(attend_forgetting(queries, batch, caches_, scale, append)));
}
// [forward]

}  // namespace kv
