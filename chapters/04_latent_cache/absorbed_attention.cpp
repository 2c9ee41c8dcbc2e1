#include "chapters/04_latent_cache/absorbed_attention.hpp"

#include <cmath>

#include "chapters/04_latent_cache/attend_latents.hpp"

namespace kv {

// [attend]
Tensor<3> attend_absorbed(const Tensor<3>& queries, const Batch& batch,
                          const std::vector<LatentCache>& caches, const Absorption& absorption,
                          const LatentSizes& sizes) {
  const float scale =
      1.0f / std::sqrt(static_cast<float>(sizes.key_width()));  // of the heads, not of the R+P
  const Tensor<3> absorbed = absorption.absorb(queries);
  Tensor<3> mixed = empty<3>({queries.shape(0), sizes.heads, sizes.rank});
  for (const auto& [sequence, first, T, position, tokens] : batch) {
    const LatentCache& cache = caches.at(sequence);
    put_rows(mixed, first,
             attend_latents(rows(absorbed, first, T), cache.latents(), cache.length(), sizes.rank,
                            scale));
  }
  return absorption.lift(mixed);
}
// [attend]

AbsorbedAttention::AbsorbedAttention(std::shared_ptr<const LatentProjection> projection, Absorption absorption,
                                     const Limits& limits)
    : LatentCacheAttention(std::move(projection), limits), absorption_(std::move(absorption)) {}

AbsorbedAttention::AbsorbedAttention(std::shared_ptr<const LatentProjection> projection, Absorption absorption,
                                     std::vector<LatentCache> caches)
    : LatentCacheAttention(std::move(projection), std::move(caches)), absorption_(std::move(absorption)) {}

Tensor<3> AbsorbedAttention::attend_caches(const Tensor<3>& queries, const Batch& batch) const {
  return attend_absorbed(queries, batch, caches(), absorption_, projection().latent_sizes());
}

}  // namespace kv
