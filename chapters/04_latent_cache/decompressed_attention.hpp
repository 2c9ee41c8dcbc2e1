#pragma once
/// @file
/// Stage `decompressed`: latents are cached, and keys and values of all heads are made from them again at every step.
/// The cautionary tale: what a careless reading of the paper builds. A small cache, absurd work.
#include "chapters/04_latent_cache/latent_cache_attention.hpp"

namespace kv {

/// Attends every row of the batch to its cache, expanding all that is in it.
/// @param queries (N,H,D)  @param batch whose rows are the last ones in their caches  @return (N,H,W)
Tensor<3> attend_decompressed(const Tensor<3>& queries, const Batch& batch, const std::vector<LatentCache>& caches,
                              const LatentProjection& projection);

/// Expanding a cached latent gives the bits that expanding it at once would have given, so this stage equals
/// `preallocated` bit for bit.
class DecompressedAttention : public LatentCacheAttention {
 public:
  using LatentCacheAttention::LatentCacheAttention;

 protected:
  Tensor<3> attend_caches(const Tensor<3>& queries, const Batch& batch) const override;
};

}  // namespace kv
