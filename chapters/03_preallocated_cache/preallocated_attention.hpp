#pragma once
/// @file
/// Stage `preallocated`: the cache is allocated once, new rows are written in place.
#include <memory>

#include "chapters/03_preallocated_cache/head_cache.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// One HeadCache per sequence. A batch that does not fit is refused before anything is written.
class PreallocatedAttention : public Attention {
 public:
  PreallocatedAttention(std::shared_ptr<const HeadProjection> projection, const Limits& limits);
  /// Goes on from caches that were filled elsewhere, one for each sequence.
  PreallocatedAttention(std::shared_ptr<const HeadProjection> projection, std::vector<HeadCache> caches);

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;
  index_t length(index_t sequence) const override { return caches_.at(sequence).length(); }
  void require_room(const Batch& batch) const override;
  index_t truncate(index_t sequence, index_t length) override;
  index_t share(index_t from, index_t to, index_t length) override;
  StateBytes state_bytes() const override;

 private:
  std::shared_ptr<const HeadProjection> projection_;
  std::vector<HeadCache> caches_;  // one for each sequence
};

}  // namespace kv
