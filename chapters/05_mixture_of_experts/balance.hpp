#pragma once
/// @file
/// How evenly experts work, and the rule that makes them: a bias on the choice, moved a little after every step.
#include "chapters/05_mixture_of_experts/router.hpp"

namespace kv {

/// How many tokens each expert got.
std::vector<index_t> expert_loads(const Routing& routing, index_t experts);

/// MaxVio: how far the busiest expert is above an even share.
/// \f[ \max_e \frac{\mathrm{load}_e}{\overline{\mathrm{load}}} - 1 \f]
/// 0: all alike. E - 1: one does everything. 0 as well when nobody works.
/// @see Wang et al. 2024, Auxiliary-loss-free load balancing, arXiv:2408.15664, equation 4
double largest_violation(std::span<const index_t> loads);

/// One step of the rule: who had more than the mean becomes less attractive, who had less more.
/// \f[ b_e \leftarrow b_e + \gamma\, \mathrm{sign}(\overline{\mathrm{load}} - \mathrm{load}_e) \f]
/// No gradient flows through b, and no loss term pulls at the weights.
/// @param bias (E), changed  @param loads (E)
/// @see Wang et al. 2024, arXiv:2408.15664, algorithm 1; DeepSeek-V3, arXiv:2412.19437, section 2.1.2
void update_bias(Tensor<1>& bias, std::span<const index_t> loads, float speed);

/// A router alone, fed with random tokens that like some experts more than others. The liking is fixed: nothing learns
/// but the bias.
struct BalanceTrial {
  index_t experts = 64, chosen = 6, tokens = 512, steps = 300;
  float preference = 1.0f;  ///< standard deviation of the experts' mean logits; that of the tokens around them is 1
  float speed = 0.005f;     ///< gamma; 0: the bias stays 0
  unsigned seed = 1;
};

/// largest_violation of every step's batch, before the step's update. The same numbers on every machine.
std::vector<double> simulate_balance(const BalanceTrial& trial);

}  // namespace kv
