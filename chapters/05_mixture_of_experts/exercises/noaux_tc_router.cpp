// An exercise, in place of chapters/05_mixture_of_experts/noaux_tc_router.cpp: see exercises.md
// Tests: 05_router_test
#include "chapters/05_mixture_of_experts/noaux_tc_router.hpp"

#include "common/tensor/exp.hpp"

namespace kv {
namespace {

/// What a group counts in DeepSeek-V3. A group of one expert counts as that one.
float sum_of_two_best(std::span<const float> scores) {
  // --- yours ---
  // scores of one group; it may have one expert only.
  throw std::logic_error("exercise 05 noaux_tc_router: a group's score is yours to write");
  // --- end ---
}

}  // namespace

NoauxTcRouter::NoauxTcRouter(Tensor<1> bias, const Options& options)
    : TokenRouter(bias.size()), bias_(std::move(bias)), options_(options) {
  require_choosable(experts(), options.chosen);
  require_choosable(experts(), options.chosen, options.limit);
}

Choices NoauxTcRouter::choose(std::span<const float> logits) const {
  // --- yours ---
  // logits (E), bias_ (E): options_.chosen experts with their weights.
  throw std::logic_error("exercise 05 noaux_tc_router: the choice is yours to write");
  // --- end ---
}

List<float> sigmoid(std::span<const float> x) {
  List<float> result(x.begin(), x.end());
  for (float& value : result) value = -value;
  exp(result);
  for (float& value : result) value = 1.0f / (1.0f + value);
  return result;
}

}  // namespace kv
