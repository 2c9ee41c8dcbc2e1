#pragma once
/// @file
/// The same stages on latents: a row belongs to all heads, so they keep it or give it up together.
#include "chapters/04_latent_cache/absorption.hpp"
#include "chapters/04_latent_cache/latent_projection.hpp"
#include "chapters/07_long_context/forgetting_cache.hpp"

namespace kv {

/// As AbsorbedAttention, with the rows that a policy leaves.
class ForgettingLatents : public Attention {
 public:
  /// @param room as ForgettingAttention's
  ForgettingLatents(std::shared_ptr<const LatentProjection> projection, Absorption absorption, const Limits& limits,
                    index_t room, const MakePolicy& make_policy);

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;
  void prompt_ends(index_t sequence) override { caches_.at(sequence).prompt_ends(); }
  index_t length(index_t sequence) const override { return caches_.at(sequence).length(); }
  /// As ForgettingAttention::truncate.
  index_t truncate(index_t sequence, index_t length) override { return caches_.at(sequence).truncate(length); }
  StateBytes state_bytes() const override { return bytes_of_all(caches_); }

  const KeptRows& rows(index_t sequence) const { return caches_.at(sequence).rows(); }

 private:
  std::shared_ptr<const LatentProjection> projection_;
  Absorption absorption_;
  std::vector<ForgettingCache> caches_;  // one for each sequence
};

}  // namespace kv
