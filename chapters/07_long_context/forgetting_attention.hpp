#pragma once
/// @file
/// Stages `heavy-hitters`, `lru`, `snap` and `fastgen`: rows are given up by the use that tokens make of them.
#include <memory>

#include "chapters/01_uncached_attention/head_projection.hpp"
#include "chapters/07_long_context/forgetting_cache.hpp"
#include "common/model/attention.hpp"

namespace kv {

/// Every key/value head keeps rows of its own, as a policy says. Keys stay turned to where they stood in the text, so a text
/// ends where the model's context ends.
class ForgettingAttention : public Attention {
 public:
  /// @param room rows of each head that memory is taken for from the beginning
  ForgettingAttention(std::shared_ptr<const HeadProjection> projection, const Limits& limits, index_t room,
                      const MakePolicy& make_policy);

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;
  void prompt_ends(index_t sequence) override { caches_.at(sequence).prompt_ends(); }
  index_t length(index_t sequence) const override { return caches_.at(sequence).length(); }
  /// 0 unless nothing is cut: all tokens are fed again, and what is fed again counts as one prompt that has not ended. A policy
  /// that had chosen at a prompt's end gives up nothing until it is told of the next one.
  index_t truncate(index_t sequence, index_t length) override { return caches_.at(sequence).truncate(length); }
  StateBytes state_bytes() const override { return bytes_of_all(caches_); }

  const KeptRows& rows(index_t sequence) const { return caches_.at(sequence).rows(); }

 private:
  std::shared_ptr<const HeadProjection> projection_;
  std::vector<ForgettingCache> caches_;  // one for each sequence
};

}  // namespace kv
