#pragma once
/// @file
/// Stage `streaming` on latents: the same rule for rows that all heads share.
#include "chapters/04_latent_cache/absorption.hpp"
#include "chapters/04_latent_cache/latent_projection.hpp"
#include "chapters/07_long_context/streaming_attention.hpp"

namespace kv {

/// As AbsorbedAttention, with a RingCache of latents. Only the rotated part of a query knows its position, so it alone
/// differs between the two queries of a token.
class StreamingLatents : public Attention {
 public:
  StreamingLatents(std::shared_ptr<const LatentProjection> projection, Absorption absorption, const Limits& limits,
                   const StreamingSizes& sizes);

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;
  index_t length(index_t sequence) const override { return caches_.at(sequence).length(); }
  index_t truncate(index_t sequence, index_t length) override { return caches_.at(sequence).truncate(length); }
  StateBytes state_bytes() const override;

 private:
  std::shared_ptr<const LatentProjection> projection_;
  Absorption absorption_;
  StreamingSizes sizes_;
  std::vector<RingCache> caches_;  // one for each sequence
};

}  // namespace kv
