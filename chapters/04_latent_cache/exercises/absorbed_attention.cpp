// An exercise, in place of chapters/04_latent_cache/absorbed_attention.cpp: see exercises.md
// Tests: 04_latent_cache_test
#include "chapters/04_latent_cache/absorbed_attention.hpp"

#include <cmath>

#include "chapters/04_latent_cache/attend_latents.hpp"

namespace kv {

Tensor<3> attend_absorbed(const Tensor<3>& queries, const Batch& batch,
                          const std::vector<LatentCache>& caches, const Absorption& absorption,
                          const LatentSizes& sizes) {
  // --- yours ---
  // queries (N,H,D); of every segment the rows first ... first+T-1 are the last ones in its cache. @return (N,H,W).
  // attend_latents(queries (T,H,R+P), latents (C,R+P), S, R, scale) gives (T,H,R).
  throw std::logic_error("exercise 04 absorbed_attention: attention to latents is yours to write");
  // --- end ---
}

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
