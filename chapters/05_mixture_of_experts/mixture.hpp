#pragma once
/// @file
/// The feed-forward half as a mixture of experts, computed twice: as one would run it, and as the formula says it.
/// Both give the same bits.
#include "chapters/05_mixture_of_experts/expert_pool.hpp"
#include "chapters/05_mixture_of_experts/router.hpp"

namespace kv {

/// Adds up in each row of y what the experts that its token has chosen make of it, experts ascending; at most
/// `tokens_at_once` tokens at a time.
/// @param y (N,M)  @param routing (N)  @param x (N,M)
void add_chosen(Tensor<2>& y, const Routing& routing, const ExpertPool& experts, const Tensor<2>& x);

/// What a mixture is made of.
struct MixtureParts {
  std::shared_ptr<const Linear> gate;  // (E,M)
  std::shared_ptr<const Router> router;
  std::shared_ptr<const ExpertPool> experts;
  std::shared_ptr<const FeedForward> shared;  ///< takes every token with factor 1; null: there is none
};

/// \f[ y = \sum_{e \in \mathcal K(x)} w_e(x)\, \mathrm{expert}_e(x) + \mathrm{shared}(x) \f]
/// Grouped: the tokens of one expert are computed together, experts in ascending order, and only those that a token has
/// chosen. The sum of a token starts at +0 and runs over its experts in ascending order, the product rounded before it is
/// added; the shared expert comes last. So a row's result does not depend on which rows come with it.
class Mixture : public FeedForward {
 public:
  /// @throws std::invalid_argument when the gate has not one output for each expert
  explicit Mixture(MixtureParts parts);
  Tensor<2> forward(const Tensor<2>& x) const override;

 private:
  MixtureParts parts_;
};

/// The same function the naive way: every expert on every token, with a factor of 0 where it was not chosen.
/// Equal to Mixture bit for bit as long as the outputs of all experts are finite: the sum is never -0 (it starts at +0, and
/// a sum of two numbers is -0 only if both are), so adding 0 * y, which is +0 or -0, changes no bit of it.
/// Reads all experts and does E / K times the work.
class DenseMixture : public FeedForward {
 public:
  explicit DenseMixture(MixtureParts parts);
  Tensor<2> forward(const Tensor<2>& x) const override;

 private:
  MixtureParts parts_;
};

}  // namespace kv
