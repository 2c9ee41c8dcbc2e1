#pragma once
/// @file
/// Stage `int4` on heads: keys per channel, values per token, a token's own group of 32 exact.
#include <memory>

#include "chapters/08_quantised_cache/cached_sequences.hpp"
#include "chapters/08_quantised_cache/int4_cache.hpp"

namespace kv {

/// One Int4Cache per sequence. A chunk is cut at multiples of 32 positions of its sequence, so a
/// token sees the same rows rounded and the same rows exact in whichever chunk it comes.
class Int4Attention : public CachedSequences<Int4Cache> {
 public:
  Int4Attention(std::shared_ptr<const HeadProjection> projection, const Limits& limits);

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;

 private:
  std::shared_ptr<const HeadProjection> projection_;
};

}  // namespace kv
