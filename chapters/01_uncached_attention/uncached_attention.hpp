#pragma once
/// @file
/// Stage `uncached`: remembers nothing. The whole sequence comes in at every step.
#include <memory>

#include "chapters/01_uncached_attention/head_projection.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// Keeps no state, so length() is 0 for ever and every call must bring each sequence from its first token on.
/// Queries, keys and values of all S tokens are made again for each new token.
class UncachedAttention : public Attention {
 public:
  UncachedAttention(std::shared_ptr<const HeadProjection> projection, const Limits&);

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;
  index_t length(index_t) const override { return 0; }
  index_t truncate(index_t sequence, index_t length) override;
  StateBytes state_bytes() const override { return {}; }

 private:
  std::shared_ptr<const HeadProjection> projection_;
};

}  // namespace kv
