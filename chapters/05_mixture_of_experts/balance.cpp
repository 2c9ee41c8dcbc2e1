#include "chapters/05_mixture_of_experts/balance.hpp"

#include <cmath>
#include <numeric>
#include <random>

#include "chapters/05_mixture_of_experts/noaux_tc_router.hpp"

namespace kv {
namespace {

/// Nearly normal, mean 0, deviation 1: the sum of 12 uniform numbers. std::normal_distribution is free to differ from one
/// library to the next.
float normal(std::mt19937& generator) {
  double sum = -6.0;
  for (int i = 0; i < 12; ++i) sum += static_cast<double>(generator()) / 4294967296.0;
  return static_cast<float>(sum);
}

double mean_load(std::span<const index_t> loads) {
  return std::accumulate(loads.begin(), loads.end(), 0.0) / static_cast<double>(loads.size());
}

}  // namespace

std::vector<index_t> expert_loads(const Routing& routing, index_t experts) {
  std::vector<index_t> loads(experts);
  for (const Choices& token : routing)
    for (const Choice& choice : token) ++loads.at(choice.expert);
  return loads;
}

double largest_violation(std::span<const index_t> loads) {
  const double mean = mean_load(loads);
  return mean > 0 ? static_cast<double>(*std::ranges::max_element(loads)) / mean - 1 : 0.0;
}

// [update]
void update_bias(Tensor<1>& bias, std::span<const index_t> loads, float speed) {
  const double mean = mean_load(loads);
  for (index_t e = 0; e < loads.size(); ++e) {
    const double load = static_cast<double>(loads[e]);
    if (load < mean) bias(e) += speed;
    if (load > mean) bias(e) -= speed;
  }
}
// [update]

// [simulate]
std::vector<double> simulate_balance(const BalanceTrial& trial) {
  std::mt19937 generator(trial.seed);
  std::vector<float> liked(trial.experts);
  for (float& mean : liked) mean = trial.preference * normal(generator);

  Tensor<1> bias = zeros<1>({trial.experts});
  std::vector<double> violations;
  for (index_t step = 0; step < trial.steps; ++step) {
    Tensor<2> logits = empty<2>({trial.tokens, trial.experts});
    for (index_t n = 0; n < trial.tokens; ++n)
      for (index_t e = 0; e < trial.experts; ++e) logits(n, e) = liked[e] + normal(generator);

    const NoauxTcRouter router(bias, {.chosen = trial.chosen, .limit = {}});
    const std::vector<index_t> loads = expert_loads(router.route(logits), trial.experts);
    violations.push_back(largest_violation(loads));
    update_bias(bias, loads, trial.speed);
  }
  return violations;
}
// [simulate]

}  // namespace kv
