#pragma once
/// @file
/// Routers whose scores are a softmax. They differ in what comes first, the softmax or the choice, and in whether the
/// weights of the chosen add up to 1. l are the gate's logits.
#include "chapters/05_mixture_of_experts/top_k.hpp"

namespace kv {

/// Softmax after the choice.
/// \f[ \mathcal K = \text{top-}K(l), \quad w_e = \frac{e^{l_e}}{\sum_{e' \in \mathcal K} e^{l_{e'}}} \f]
/// @see Jiang et al. 2024, Mixtral of Experts, arXiv:2401.04088, section 2.1
class MixtralRouter : public TokenRouter {
 public:
  /// @throws std::invalid_argument unless 1 <= chosen <= experts; so do all routers
  MixtralRouter(index_t experts, index_t chosen);

 private:
  Choices choose(std::span<const float> logits) const override;
  index_t chosen_;
};

/// Softmax over all experts, then the choice; the weights are normalised where the config says `norm_topk_prob`.
/// \f[ p = \mathrm{softmax}(l), \quad \mathcal K = \text{top-}K(p), \quad w_e = p_e \ \text{ or } \ p_e / \textstyle\sum_{e' \in \mathcal K} p_{e'} \f]
/// Normalised it is Mixtral's formula; the rounding differs.
/// @see Yang et al. 2025, Qwen3 technical report, arXiv:2505.09388, section 2
class Qwen3MoeRouter : public TokenRouter {
 public:
  Qwen3MoeRouter(index_t experts, index_t chosen, bool normalised);

 private:
  Choices choose(std::span<const float> logits) const override;
  index_t chosen_;
  bool normalised_;
};

/// DeepSeek-V2-Lite, `topk_method` "greedy": softmax over all, the K best, never normalised, times `routed_scaling_factor` a.
/// \f[ p = \mathrm{softmax}(l), \quad \mathcal K = \text{top-}K(p), \quad w_e = a\, p_e \f]
/// @see DeepSeek-AI 2024, DeepSeek-V2, arXiv:2405.04434, equations 20 to 22
class GreedyRouter : public TokenRouter {
 public:
  GreedyRouter(index_t experts, index_t chosen, float scaling);

 private:
  Choices choose(std::span<const float> logits) const override;
  index_t chosen_;
  float scaling_;
};

/// DeepSeek-V2, `topk_method` "group_limited_greedy": the choice is limited to a few groups, so that a token is sent to few
/// machines. A group counts as its best expert.
/// \f[ p = \mathrm{softmax}(l), \quad \mathcal G = \text{top-}k_G\big(\max_{e \in g} p_e\big), \quad
///     \mathcal K = \text{top-}K\{p_e : e \in \mathcal G\}, \quad w_e = a\, p_e \f]
/// @see DeepSeek-AI 2024, DeepSeek-V2, arXiv:2405.04434, section 2.2.2
class GroupLimitedRouter : public TokenRouter {
 public:
  /// @throws std::invalid_argument also unless the groups divide the experts and the kept ones have at least K of them
  GroupLimitedRouter(index_t experts, index_t chosen, GroupLimit limit, float scaling);

 private:
  Choices choose(std::span<const float> logits) const override;
  index_t chosen_;
  GroupLimit limit_;
  float scaling_;
};

}  // namespace kv
