#pragma once
/// @file
/// Stage `paged-absorbed`: latents in pages, one row for all heads, and the heads work on them as they are.
#include "chapters/04_latent_cache/absorption.hpp"
#include "chapters/04_latent_cache/latent_projection.hpp"
#include "chapters/09_paged_cache/paged_layer.hpp"

namespace kv {

/// As AbsorbedAttention, bit for bit. Stage `latent` has no such twin: it chooses its form by the size of a chunk, so a hit in
/// the cache, which makes the chunk shorter, would change bits.
class PagedAbsorbedAttention : public PagedLayer {
 public:
  PagedAbsorbedAttention(std::shared_ptr<const LatentProjection> projection, Absorption absorption,
                         std::shared_ptr<PageTable> table, std::shared_ptr<PageStore> store);

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;

 private:
  std::shared_ptr<const LatentProjection> projection_;
  Absorption absorption_;
};

}  // namespace kv
