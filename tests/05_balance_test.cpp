/// Load balance: what is counted, the bias rule, and what the rule does to a router.
#include "chapters/05_mixture_of_experts/balance.hpp"
#include "tests/support/catch.hpp"

using namespace kv;

namespace {

double mean_of_last(const std::vector<double>& values, index_t count) {
  double sum = 0;
  for (index_t i = values.size() - count; i < values.size(); ++i) sum += values[i];
  return sum / static_cast<double>(count);
}

}  // namespace

TEST_CASE("loads count tokens, and the violation compares the busiest with the mean", "[balance]") {
  const Routing routing{{{0, 0.5f}, {2, 0.5f}}, {{2, 1.0f}}, {}, {{2, 0.9f}, {3, 0.1f}}};
  CHECK(expert_loads(routing, 5) == std::vector<index_t>{1, 0, 3, 1, 0});
  CHECK(largest_violation(std::vector<index_t>{1, 0, 3, 1, 0}) == Approx(2.0));
  CHECK(largest_violation(std::vector<index_t>{4, 4, 4}) == 0.0);
  CHECK(largest_violation(std::vector<index_t>{0, 0, 12, 0}) == 3.0);
  CHECK(largest_violation(std::vector<index_t>{0, 0}) == 0.0);
}

TEST_CASE("the bias of the busy falls, that of the idle rises, by a fixed step", "[balance]") {
  Tensor<1> bias = zeros<1>({4});
  bias(3) = 1.0f;
  update_bias(bias, std::vector<index_t>{100, 5, 0, 35}, 0.25f);  // mean 35
  CHECK(bias(0) == -0.25f);
  CHECK(bias(1) == 0.25f);
  CHECK(bias(2) == 0.25f);
  CHECK(bias(3) == 1.0f);  // exactly the mean
}

TEST_CASE("the bias evens out a router that likes some experts more than others", "[balance]") {
  BalanceTrial trial{.steps = 200, .speed = 0.0f};
  const double without = mean_of_last(simulate_balance(trial), 20);
  trial.speed = 0.005f;
  const std::vector<double> with = simulate_balance(trial);
  CHECK(without > 2.0);
  CHECK(with.front() > 2.0);                   // the bias starts at 0
  CHECK(mean_of_last(with, 20) < without / 5);
  CHECK(mean_of_last(with, 20) < 0.5);
  CHECK(simulate_balance(trial) == with);      // a seed decides everything
}
