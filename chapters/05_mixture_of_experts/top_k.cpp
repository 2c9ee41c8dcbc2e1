#include "chapters/05_mixture_of_experts/top_k.hpp"

#include <limits>

namespace kv {

// [top_k]
List<index_t> top_k(std::span<const float> scores, index_t k) {
  if (k > scores.size())
    throw std::invalid_argument("top_k: " + std::to_string(k) + " of " +
                                std::to_string(scores.size()) + " scores");
  List<bool> taken(scores.size());
  for (index_t round = 0; round < k; ++round) {
    index_t best = scores.size();
    for (index_t e = 0; e < scores.size(); ++e)
      if (!taken[e] && (best == scores.size() || scores[e] > scores[best]))
        best = e;  // > : a tie goes to the lowest
    taken[best] = true;
  }
  List<index_t> positions;
  for (index_t e = 0; e < scores.size(); ++e)
    if (taken[e]) positions.push_back(e);
  return positions;
}
// [top_k]

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

// [groups]
List<float> keep_best_groups(std::span<const float> scores, const GroupLimit& limit,
                             float (*group_score)(std::span<const float>)) {
  require_choosable(scores.size(), 1, limit);
  const index_t size = scores.size() / limit.groups;
  List<float> group_scores;
  for (index_t g = 0; g < limit.groups; ++g)
    group_scores.push_back(group_score(scores.subspan(g * size, size)));

  List<float> masked(scores.size(), -std::numeric_limits<float>::infinity());
  for (const index_t g : top_k(group_scores, limit.kept))
    std::copy_n(scores.begin() + static_cast<std::ptrdiff_t>(g * size), size,
                masked.begin() + static_cast<std::ptrdiff_t>(g * size));
  return masked;
}
// [groups]

}  // namespace kv
