// An exercise, in place of chapters/05_mixture_of_experts/top_k.cpp: see exercises.md
// Tests: 05_router_test
#include "chapters/05_mixture_of_experts/top_k.hpp"

#include <limits>

namespace kv {

List<index_t> top_k(std::span<const float> scores, index_t k) {
  if (k > scores.size())
    throw std::invalid_argument("top_k: " + std::to_string(k) + " of " +
                                std::to_string(scores.size()) + " scores");
  // --- yours ---
  // The k largest of scores (E): their positions, ascending, k different ones even if some are NaN. Ties: the lowest.
  throw std::logic_error("exercise 05 top_k: top_k is yours to write");
  // --- end ---
}

Choices choices(const List<index_t>& experts, std::span<const float> scores) {
  Choices result;
  for (const index_t e : experts) result.push_back({e, scores[e]});
  return result;
}

void normalise(Choices& choices, float epsilon) {
  float sum = 0.0f;
  for (const Choice& choice : choices) sum += choice.weight;
  for (Choice& choice : choices) choice.weight /= sum + epsilon;
}

void scale(Choices& choices, float factor) {
  for (Choice& choice : choices) choice.weight *= factor;
}

void require_choosable(index_t experts, index_t chosen) {
  if (chosen == 0 || chosen > experts)
    throw std::invalid_argument("router: chooses " + std::to_string(chosen) + " of " + std::to_string(experts) + " experts");
}

void require_choosable(index_t experts, index_t chosen, const GroupLimit& limit) {
  const auto& [groups, kept] = limit;
  if (groups == 0 || experts % groups != 0 || kept == 0 || kept > groups || kept * (experts / groups) < chosen)
    throw std::invalid_argument("router: chooses " + std::to_string(chosen) + " of " + std::to_string(experts) +
                                " experts from " + std::to_string(kept) + " of " + std::to_string(groups) + " groups");
}

List<float> keep_best_groups(std::span<const float> scores, const GroupLimit& limit,
                             float (*group_score)(std::span<const float>)) {
  require_choosable(scores.size(), 1, limit);
  // --- yours ---
  // scores (E) in limit.groups groups side by side: those outside of the limit.kept best groups are masked.
  throw std::logic_error("exercise 05 top_k: the groups are yours to choose");
  // --- end ---
}

}  // namespace kv
