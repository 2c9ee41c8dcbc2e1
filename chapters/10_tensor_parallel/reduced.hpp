#pragma once
/// @file
/// Matrices cut along their sums: what ranks have made is added up. One all-reduce for each half of a layer.
/// @see Shoeybi et al. 2019, Megatron-LM, section 3, arXiv:1909.08053
#include <memory>

#include "chapters/10_tensor_parallel/communicator.hpp"
#include "chapters/models/model_tensors.hpp"
#include "common/model/attention.hpp"
#include "common/model/feed_forward.hpp"

namespace kv {

/// Attention of which every rank has some heads, their columns of the output matrix included. Its outputs are summands.
class ReducedAttention : public Attention {
 public:
  ReducedAttention(std::unique_ptr<Attention> own, Communicator& line) : own_(std::move(own)), line_(line) {}

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override;
  void require_room(const Batch& batch) const override { own_->require_room(batch); }
  index_t length(index_t sequence) const override { return own_->length(sequence); }
  index_t truncate(index_t sequence, index_t length) override { return own_->truncate(sequence, length); }
  index_t share(index_t from, index_t to, index_t length) override { return own_->share(from, to, length); }
  StateBytes state_bytes() const override { return own_->state_bytes(); }

 private:
  std::unique_ptr<Attention> own_;
  Communicator& line_;
};

/// A feed-forward half of which every rank has a slice of the inner width.
class ReducedFeedForward : public FeedForward {
 public:
  ReducedFeedForward(std::shared_ptr<const FeedForward> own, Communicator& line) : own_(std::move(own)), line_(line) {}
  Tensor<2> forward(const Tensor<2>& x) const override;

 private:
  std::shared_ptr<const FeedForward> own_;
  Communicator& line_;
};

/// The tensors of one rank: rows of the matrices that come first, the same columns of the one that comes last.
/// @throws UsageError when the rank would get no head
AttentionTensors summand(const AttentionTensors& tensors, index_t ranks, index_t rank);
FeedForwardTensors summand(const FeedForwardTensors& tensors, index_t ranks, index_t rank);

}  // namespace kv
