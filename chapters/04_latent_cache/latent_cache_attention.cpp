#include "chapters/04_latent_cache/latent_cache_attention.hpp"

namespace kv {

LatentCacheAttention::LatentCacheAttention(std::shared_ptr<const LatentProjection> projection, const Limits& limits)
    : projection_(std::move(projection)) {
  for (index_t b = 0; b < limits.sequences; ++b)
    caches_.emplace_back(limits.capacity, projection_->latent_sizes().row_width());
}

LatentCacheAttention::LatentCacheAttention(std::shared_ptr<const LatentProjection> projection, std::vector<LatentCache> caches)
    : projection_(std::move(projection)), caches_(std::move(caches)) {}

// [forward]
Tensor<2> LatentCacheAttention::forward(const Tensor<2>& x, const Batch& batch) {
  require_room(batch);
  const List<index_t> at = positions(batch, *this);
  const Tensor<3> queries = projection_->queries(x, at);
  const Tensor<2> latents = projection_->latents(x, at);
  for (const Segment& part : batch)
    caches_[part.sequence].append(latents, part.first_row, part.rows);
  return projection_->output(attend_caches(queries, batch));
}
// [forward]

void LatentCacheAttention::require_room(const Batch& batch) const {
  for (const Segment& segment : batch) {
    const LatentCache& cache = caches_.at(segment.sequence);
    kv::require_room(cache.length(), cache.capacity(), segment.rows);
  }
}

index_t LatentCacheAttention::truncate(index_t sequence, index_t length) {
  caches_.at(sequence).truncate(length);
  return length;
}

index_t LatentCacheAttention::share(index_t from, index_t to, index_t length) {
  caches_.at(to).copy(caches_.at(from), length);
  return length;
}

StateBytes LatentCacheAttention::state_bytes() const { return bytes_of_all(caches_); }

}  // namespace kv
