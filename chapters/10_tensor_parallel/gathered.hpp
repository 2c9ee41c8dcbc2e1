#pragma once
/// @file
/// Matrices cut by outputs: every sum stays whole on one rank, so no bit changes; what ranks have made is gathered.
#include <memory>

#include "chapters/01_uncached_attention/head_projection.hpp"
#include "chapters/05_mixture_of_experts/router.hpp"
#include "chapters/10_tensor_parallel/communicator.hpp"
#include "chapters/models/model_tensors.hpp"
#include "common/model/feed_forward.hpp"

namespace kv {

/// The heads of one rank, for a cache of chapter 3 that does not know of other ranks. What they mixed is gathered, each rank
/// makes its rows of the output, and those are gathered: every rank has all M numbers.
/// Sends \f$ (p-1) \f$ times its parts of H W and of M numbers per token.
class GatheredHeads : public HeadProjection {
 public:
  /// @throws UsageError when the rank would get no head, Error as Checkpoint::pack
  GatheredHeads(const Checkpoint& checkpoint, const AttentionTensors& tensors, Communicator& line);

  Heads project(const Tensor<2>& x, std::span<const index_t> positions) const override { return own_->project(x, positions); }
  Tensor<3> queries(const Tensor<2>& x, std::span<const index_t> positions) const override { return own_->queries(x, positions); }
  Tensor<2> output(const Tensor<3>& mixed) const override;
  HeadSizes sizes() const override { return own_->sizes(); }

 private:
  Communicator& line_;
  std::shared_ptr<const HeadProjection> own_;
  std::shared_ptr<const Linear> output_;         // its rows of (M,H*W)
  std::vector<Slice> mixed_columns_, rows_;      // of each rank
};

/// A dense SwiGLU: each rank makes some hidden numbers, all gather them, each makes some outputs.
/// Sends \f$ (p-1) \f$ times its parts of F and of M numbers per token.
class GatheredFeedForward : public FeedForward {
 public:
  GatheredFeedForward(const Checkpoint& checkpoint, const SwiGluTensors& tensors, Communicator& line);
  Tensor<2> forward(const Tensor<2>& x) const override;

  /// The three steps.
  Tensor<2> own_hidden(const Tensor<2>& x) const;               // its columns of (N,F)
  Tensor<2> gathered_hidden(const Tensor<2>& own) const;        // (N,F)
  Tensor<2> own_outputs(const Tensor<2>& hidden) const;         // its columns of (N,M)

 private:
  Communicator& line_;
  std::vector<Slice> hidden_, outputs_;           // of each rank, of F and of M
  std::shared_ptr<const Linear> gate_, up_, down_;  // its rows of (F,M) (F,M) (M,F)
};

/// Every rank has a slice of every expert and adds up its own outputs in the router's order, as chapter 5 does: no sum is
/// ever made rank by rank. Sends \f$ (p-1) \f$ times its parts of K F (hidden rows of the chosen experts), of the shared
/// expert's F, and of M.
class GatheredMixture : public FeedForward {
 public:
  GatheredMixture(const Checkpoint& checkpoint, const MixtureTensors& tensors, Communicator& line);
  Tensor<2> forward(const Tensor<2>& x) const override;

 private:
  void add_chosen(Tensor<2>& y, const Tensor<2>& x) const;
  void add_shared(Tensor<2>& y, const Tensor<2>& x) const;
  const GatheredFeedForward& expert(index_t e) const;

  Communicator& line_;
  Checkpoint checkpoint_;
  MixtureTensors tensors_;
  std::vector<Slice> outputs_;          // of M
  std::shared_ptr<const Linear> gate_;  // (E,M), on every rank
  std::shared_ptr<const Router> router_;
  mutable std::vector<std::unique_ptr<GatheredFeedForward>> experts_;  // packed when they are first chosen
  std::unique_ptr<GatheredFeedForward> shared_;                        // or none
  std::shared_ptr<const Linear> shared_gate_;                          // (1,M), or none
};

}  // namespace kv
