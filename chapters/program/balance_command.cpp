#include <iostream>

#include "chapters/05_mixture_of_experts/balance.hpp"
#include "chapters/program/session.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

/// The bias rule on a router alone.
void run(const Arguments& arguments) {
  BalanceTrial trial;
  const std::vector<double> with = simulate_balance(trial);
  const float speed = std::exchange(trial.speed, 0.0f);
  const std::vector<double> without = simulate_balance(trial);
  if (arguments.has("--json")) {
    std::vector<JsonObject> steps;
    for (index_t i = 0; i < with.size(); ++i)
      steps.push_back(JsonObject().set("step", i).set("with_bias", with[i]).set("without_bias", without[i]));
    JsonObject object;
    object.set("experts", trial.experts).set("chosen", trial.chosen).set("tokens", trial.tokens);
    object.set("speed", static_cast<double>(speed)).set("steps", steps);
    std::cout << object.text() << "\n";
    return;
  }
  std::cout << "A router alone: " << trial.chosen << " of " << trial.experts << " experts, " << trial.tokens
            << " random tokens a step, some experts liked more than others.\nThe bias moves by " << decimal(speed, 3)
            << " a step. Largest violation: the busiest expert's load over the mean, less 1.\n\n";
  Table table({"step", "without bias", "with bias"});
  for (const index_t step : {0, 10, 20, 40, 80, 160, 299})
    table.add({std::to_string(step), decimal(without[step], 2), decimal(with[step], 2)});
  std::cout << table.text();
}

}  // namespace

const Command balance_command{"balance", "the bias rule of loss-free balancing on a router alone, without a model", {json_option}, run};

}  // namespace kv
