#include "chapters/05_mixture_of_experts/noaux_tc_router.hpp"

#include "common/tensor/exp.hpp"

namespace kv {
namespace {

/// What a group counts in DeepSeek-V3. A group of one expert counts as that one.
float sum_of_two_best(std::span<const float> scores) {
  float sum = 0.0f;
  for (const index_t e : top_k(scores, std::min<index_t>(2, scores.size()))) sum += scores[e];
  return sum;
}

}  // namespace

NoauxTcRouter::NoauxTcRouter(Tensor<1> bias, const Options& options)
    : TokenRouter(bias.size()), bias_(std::move(bias)), options_(options) {
  require_choosable(experts(), options.chosen);
  require_choosable(experts(), options.chosen, options.limit);
}

// [noaux_tc]
Choices NoauxTcRouter::choose(std::span<const float> logits) const {
  const List<float> scores = sigmoid(logits);
  List<float> biased = scores;
  for (index_t e = 0; e < biased.size(); ++e) biased[e] += bias_(e);

  Choices result = choices(
      top_k(keep_best_groups(biased, options_.limit, sum_of_two_best), options_.chosen), scores);
  if (options_.normalised) normalise(result, 1e-20f);
  scale(result, options_.scaling);
  return result;
}
// [noaux_tc]

List<float> sigmoid(std::span<const float> x) {
  List<float> result(x.begin(), x.end());
  for (float& value : result) value = -value;
  exp(result);
  for (float& value : result) value = 1.0f / (1.0f + value);
  return result;
}

}  // namespace kv
