#include "chapters/04_latent_cache/latent_cache_attention.hpp"

namespace kv {

LatentCacheAttention::LatentCacheAttention(std::shared_ptr<const LatentProjection> projection, const Limits& limits)
    : projection_(std::move(projection)) {
  for (index_t b = 0; b < limits.sequences; ++b)
    caches_.emplace_back(limits.capacity, projection_->latent_sizes().row_width());
}

// [forward]
Tensor<2> LatentCacheAttention::forward(const Tensor<2>& x, const Batch& batch) {
  for (const auto& [sequence, first, T] : batch) caches_.at(sequence).require_room(T);
  const std::vector<index_t> at = positions(batch, *this);
  const Tensor<3> queries = projection_->queries(x, at);
  const Tensor<2> latents = projection_->latents(x, at);
  for (const auto& [sequence, first, T] : batch) caches_[sequence].append(latents, first, T);
  return projection_->output(attend_caches(queries, batch));
}
// [forward]

std::size_t LatentCacheAttention::state_bytes() const {
  std::size_t bytes = 0;
  for (const LatentCache& cache : caches_) bytes += cache.bytes();
  return bytes;
}

}  // namespace kv
