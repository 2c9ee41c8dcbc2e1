#pragma once
/// @file
/// What every way to read a latent cache has in common: how it is written.
#include <memory>

#include "chapters/04_latent_cache/latent_cache.hpp"
#include "chapters/04_latent_cache/latent_projection.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// One LatentCache per sequence. A batch that does not fit is refused before anything is written.
class LatentCacheAttention : public Attention {
 public:
  LatentCacheAttention(std::shared_ptr<const LatentProjection> projection, const Limits& limits);
  /// Goes on from caches that were filled elsewhere, one for each sequence.
  LatentCacheAttention(std::shared_ptr<const LatentProjection> projection, std::vector<LatentCache> caches);

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;
  index_t length(index_t sequence) const override { return caches_.at(sequence).length(); }
  void require_room(const Batch& batch) const override;
  index_t truncate(index_t sequence, index_t length) override;
  index_t share(index_t from, index_t to, index_t length) override;
  StateBytes state_bytes() const override;

 protected:
  /// The rows of the batch are already in their caches, the last ones there.
  /// @param queries (N,H,D)  @return (N,H,W)
  virtual Tensor<3> attend_caches(const Tensor<3>& queries, const Batch& batch) const = 0;

  const LatentProjection& projection() const { return *projection_; }
  const std::vector<LatentCache>& caches() const { return caches_; }

 private:
  std::shared_ptr<const LatentProjection> projection_;
  std::vector<LatentCache> caches_;  // one for each sequence
};

}  // namespace kv
