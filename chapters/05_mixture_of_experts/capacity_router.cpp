#include "chapters/05_mixture_of_experts/capacity_router.hpp"

#include <cmath>

#include "chapters/05_mixture_of_experts/top_k.hpp"
#include "common/tensor/softmax.hpp"

namespace kv {
namespace {

/// A token's experts before anybody is dropped, the most likely first.
Choices ranked(std::span<const float> logits, index_t K) {
  List<float> probabilities(logits.begin(), logits.end());
  softmax(probabilities);
  Choices wanted = choices(top_k(probabilities, K), probabilities);
  if (K > 1) normalise(wanted);
  std::ranges::stable_sort(wanted, std::greater(), &Choice::weight);
  return wanted;
}

}  // namespace

CapacityRouter::CapacityRouter(index_t experts, index_t chosen, double factor)
    : experts_(experts), chosen_(chosen), factor_(factor) {
  if (chosen == 0 || chosen > experts || !(factor > 0))
    throw std::invalid_argument("CapacityRouter: needs 1 <= K <= E and a positive factor");
}

index_t CapacityRouter::capacity(index_t tokens) const {
  return static_cast<index_t>(std::ceil(factor_ * static_cast<double>(chosen_ * tokens) / static_cast<double>(experts_)));
}

// [route]
Routing CapacityRouter::route(const Tensor<2>& logits) const {
  const index_t N = logits.shape(0), C = capacity(N);
  require_shape("router: logits (N,E)", logits, {N, experts_});
  Routing wanted, routing(N);
  for (index_t n = 0; n < N; ++n) wanted.push_back(ranked(row(logits, n), chosen_));

  List<index_t> taken(experts_);  // places of each expert
  for (index_t rank = 0; rank < chosen_; ++rank)
    for (index_t n = 0; n < N; ++n)
      if (const Choice choice = wanted[n][rank]; taken[choice.expert] < C) {
        ++taken[choice.expert];
        routing[n].push_back(choice);
      }
  for (Choices& token : routing) std::ranges::sort(token, {}, &Choice::expert);
  return routing;
}
// [route]

}  // namespace kv
