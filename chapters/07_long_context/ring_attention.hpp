#pragma once
/// @file
/// Stage `ring`: of a layer that the model made with a window, only rows that can still be seen are kept.
#include <memory>

#include "chapters/01_uncached_attention/head_projection.hpp"
#include "chapters/07_long_context/ring_cache.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// One RingCache per sequence. The window is the layer's own, so nothing is lost: every token sees what it sees in stage
/// `uncached`. A layer without a window keeps all its rows.
class RingAttention : public Attention {
 public:
  RingAttention(std::shared_ptr<const HeadProjection> projection, const Limits& limits);

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;
  void require_room(const Batch& batch) const override;
  index_t length(index_t sequence) const override { return caches_.at(sequence).length(); }
  index_t truncate(index_t sequence, index_t length) override { return caches_.at(sequence).truncate(length); }
  StateBytes state_bytes() const override;

 private:
  std::shared_ptr<const HeadProjection> projection_;
  index_t capacity_;
  std::vector<RingCache> caches_;  // one for each sequence
};

}  // namespace kv
