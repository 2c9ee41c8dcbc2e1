#pragma once
/// @file
/// DeepSeek-V3's router: balanced by a bias and not by an auxiliary loss (`topk_method` "noaux_tc").
#include "chapters/05_mixture_of_experts/top_k.hpp"

namespace kv {

/// \f[ s = \sigma(l), \quad c = s + b, \quad \mathcal G = \text{top-}k_G\big(\text{sum of the two best } c_e,\ e \in g\big), \quad
///     \mathcal K = \text{top-}K\{c_e : e \in \mathcal G\} \f]
/// \f[ w_e = a\, \frac{s_e}{\sum_{e' \in \mathcal K} s_{e'} + 10^{-20}} \f]
/// The bias b decides who is chosen and never how much it counts: weights come from s.
/// @see DeepSeek-AI 2024, DeepSeek-V3, arXiv:2412.19437, equations 12 to 16
class NoauxTcRouter : public TokenRouter {
 public:
  struct Options {
    index_t chosen;
    GroupLimit limit;
    bool normalised = true;  ///< `norm_topk_prob`
    float scaling = 1.0f;    ///< `routed_scaling_factor`, a
  };
  /// @param bias (E), `e_score_correction_bias`
  /// @throws std::invalid_argument unless the kept groups have at least K experts
  NoauxTcRouter(Tensor<1> bias, const Options& options);

 private:
  Choices choose(std::span<const float> logits) const override;
  Tensor<1> bias_;
  Options options_;
};

/// \f$ 1 / (1 + e^{-x}) \f$ of every element, by the book's one exp.
List<float> sigmoid(std::span<const float> x);

}  // namespace kv
