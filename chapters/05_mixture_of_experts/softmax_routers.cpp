#include "chapters/05_mixture_of_experts/softmax_routers.hpp"

#include "common/tensor/softmax.hpp"

namespace kv {
namespace {

List<float> probabilities(std::span<const float> logits) {
  List<float> result(logits.begin(), logits.end());
  softmax(result);
  return result;
}

/// What a group counts in DeepSeek-V2.
float best(std::span<const float> scores) { return *std::ranges::max_element(scores); }

}  // namespace

MixtralRouter::MixtralRouter(index_t experts, index_t chosen) : TokenRouter(experts), chosen_(chosen) {
  require_choosable(experts, chosen);
}

// [mixtral]
Choices MixtralRouter::choose(std::span<const float> logits) const {
  const List<index_t> experts = top_k(logits, chosen_);
  List<float> weights;
  for (const index_t e : experts) weights.push_back(logits[e]);
  softmax(weights);
  Choices result;
  for (index_t k = 0; k < chosen_; ++k) result.push_back({experts[k], weights[k]});
  return result;
}
// [mixtral]

Qwen3MoeRouter::Qwen3MoeRouter(index_t experts, index_t chosen, bool normalised)
    : TokenRouter(experts), chosen_(chosen), normalised_(normalised) {
  require_choosable(experts, chosen);
}

// [qwen3]
Choices Qwen3MoeRouter::choose(std::span<const float> logits) const {
  const List<float> p = probabilities(logits);
  Choices result = choices(top_k(p, chosen_), p);
  if (normalised_) normalise(result);
  return result;
}
// [qwen3]

GreedyRouter::GreedyRouter(index_t experts, index_t chosen, float scaling)
    : TokenRouter(experts), chosen_(chosen), scaling_(scaling) {
  require_choosable(experts, chosen);
}

// [greedy]
Choices GreedyRouter::choose(std::span<const float> logits) const {
  const List<float> p = probabilities(logits);
  Choices result = choices(top_k(p, chosen_), p);
  scale(result, scaling_);
  return result;
}
// [greedy]

GroupLimitedRouter::GroupLimitedRouter(index_t experts, index_t chosen, GroupLimit limit, float scaling)
    : TokenRouter(experts), chosen_(chosen), limit_(limit), scaling_(scaling) {
  require_choosable(experts, chosen);
  require_choosable(experts, chosen, limit);
}

// [group_limited]
Choices GroupLimitedRouter::choose(std::span<const float> logits) const {
  const List<float> p = probabilities(logits);
  Choices result = choices(top_k(keep_best_groups(p, limit_, best), chosen_), p);
  scale(result, scaling_);
  return result;
}
// [group_limited]

}  // namespace kv
