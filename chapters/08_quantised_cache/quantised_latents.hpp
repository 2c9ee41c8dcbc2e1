#pragma once
/// @file
/// The stages of this chapter on latents: one row for all heads, in fewer bytes.
#include "chapters/04_latent_cache/absorption.hpp"
#include "chapters/04_latent_cache/latent_projection.hpp"
#include "chapters/08_quantised_cache/cached_sequences.hpp"
#include "chapters/08_quantised_cache/quantised_cache.hpp"

namespace kv {

/// As AbsorbedAttention, with one QuantisedCache per sequence. A row is key and value at once, so
/// both are rounded alike.
class QuantisedLatents : public CachedSequences<QuantisedCache> {
 public:
  /// @param formats of a row's latent and of its rotated part
  QuantisedLatents(std::shared_ptr<const LatentProjection> projection, Absorption absorption,
                   const Limits& limits, const RowFormats& formats);

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;

 private:
  std::shared_ptr<const LatentProjection> projection_;
  Absorption absorption_;
};

}  // namespace kv
