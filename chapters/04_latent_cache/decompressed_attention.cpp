#include "chapters/04_latent_cache/decompressed_attention.hpp"

#include "chapters/01_uncached_attention/attend.hpp"

namespace kv {

// [attend]
Tensor<3> attend_decompressed(const Tensor<3>& queries, const Batch& batch,
                              const std::vector<LatentCache>& caches,
                              const LatentProjection& projection) {
  Tensor<3> mixed = empty<3>({queries.shape(0), queries.shape(1), projection.sizes().value_width});
  for (const auto& [sequence, first, T, position, tokens] : batch) {
    const LatentCache& cache = caches.at(sequence);
    const auto [keys, values] = projection.expand(rows(cache.latents(), 0, cache.length()));
    put_rows(mixed, first, attend(rows(queries, first, T), keys, values, cache.length()));
  }
  return mixed;
}
// [attend]

Tensor<3> DecompressedAttention::attend_caches(const Tensor<3>& queries, const Batch& batch) const {
  return attend_decompressed(queries, batch, caches(), projection());
}

}  // namespace kv
