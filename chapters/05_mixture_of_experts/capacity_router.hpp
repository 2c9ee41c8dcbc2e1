#pragma once
/// @file
/// Where it began: experts with room for a fixed number of tokens, and tokens that find none.
#include "chapters/05_mixture_of_experts/router.hpp"

namespace kv {

/// GShard (K = 2) and Switch (K = 1). An expert takes at most \f$ C = \lceil f \cdot K N / E \rceil \f$ of the batch's N
/// tokens, in the order of the batch: all first choices, then all second choices. What comes later is dropped: the token's
/// list is shorter, or empty, and then only the residual connection carries it.
/// \f[ p = \mathrm{softmax}(l), \quad w_e = p_e \ (K = 1), \quad w_e = p_e / \textstyle\sum_{e' \in \text{top-}K} p_{e'} \ (K > 1) \f]
/// So a token's output depends on the others in its batch: no cached decode can repeat a prefill, and no later model does it.
/// GShard's second choice is drawn at random in training; here it is always taken.
/// @see Lepikhin et al. 2020, arXiv:2006.16668, algorithm 1; Fedus et al. 2021, arXiv:2101.03961, section 2.2
class CapacityRouter : public Router {
 public:
  /// @param factor f, 1 for an even share  @throws std::invalid_argument unless 1 <= chosen <= experts and factor > 0
  CapacityRouter(index_t experts, index_t chosen, double factor);

  Routing route(const Tensor<2>& logits) const override;
  /// C for a batch of N tokens.
  index_t capacity(index_t tokens) const;

 private:
  index_t experts_, chosen_;
  double factor_;
};

}  // namespace kv
