#pragma once
/// @file
/// Stage `absorbed`: latents are cached, and the heads work on them as they are.
#include "chapters/04_latent_cache/absorption.hpp"
#include "chapters/04_latent_cache/latent_cache_attention.hpp"

namespace kv {

/// Attends every row of the batch to its cache, in the latent space.
/// @param queries (N,H,D)  @param batch whose rows are the last ones in their caches  @return (N,H,W)
Tensor<3> attend_absorbed(const Tensor<3>& queries, const Batch& batch, const std::vector<LatentCache>& caches,
                          const Absorption& absorption, const LatentSizes& sizes);

/// Always absorbed, prompts as well: chunks and batches change no bit. Against keys and values in full the sums are
/// regrouped, \f$ q \cdot (W c) = (W^T q) \cdot c \f$, so results differ by rounding.
class AbsorbedAttention : public LatentCacheAttention {
 public:
  AbsorbedAttention(std::shared_ptr<const LatentProjection> projection, Absorption absorption, const Limits& limits);
  /// Goes on from caches that were filled elsewhere, one for each sequence.
  AbsorbedAttention(std::shared_ptr<const LatentProjection> projection, Absorption absorption, std::vector<LatentCache> caches);

 protected:
  Tensor<3> attend_caches(const Tensor<3>& queries, const Batch& batch) const override;

 private:
  Absorption absorption_;
};

}  // namespace kv
