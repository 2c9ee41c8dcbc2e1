#pragma once
/// @file
/// Stages `bf16`, `f16`, `fp8` and `int8` on heads: chapter 3 with rows in fewer bytes.
#include "chapters/08_quantised_cache/cached_sequences.hpp"
#include "chapters/08_quantised_cache/quantised_cache.hpp"

namespace kv {

/// One QuantisedCache per sequence. A batch that does not fit is refused before anything is
/// written.
class QuantisedAttention : public CachedSequences<QuantisedCache> {
 public:
  /// @param formats of a head's key and value
  QuantisedAttention(std::shared_ptr<const HeadProjection> projection, const Limits& limits,
                     const RowFormats& formats);

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;

 private:
  std::shared_ptr<const HeadProjection> projection_;
};

}  // namespace kv
