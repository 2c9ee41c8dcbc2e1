#pragma once
/// @file
/// The step that all routers share: the K best of a row of scores, and the factors that follow from them.
#include "chapters/05_mixture_of_experts/router.hpp"

namespace kv {

/// Positions of the k largest scores, ascending. Of equal scores the lowest position is taken.
/// @throws std::invalid_argument when there are fewer than k
List<index_t> top_k(std::span<const float> scores, index_t k);

/// The experts with their scores as weights.
Choices choices(const List<index_t>& experts, std::span<const float> scores);

/// Divides by the sum, so that the weights add up to 1. The sum runs over ascending experts.
/// @param epsilon added to the sum
void normalise(Choices& choices, float epsilon = 0.0f);

/// Multiplies every weight.
void scale(Choices& choices, float factor);

/// Experts lie in groups of equal size, side by side: a group is one machine's share.
struct GroupLimit {
  index_t groups = 1;  ///< how many there are
  index_t kept = 1;    ///< how many a token may use
};

/// What every router's constructor asks for.
/// @throws std::invalid_argument unless 1 <= chosen <= experts
void require_choosable(index_t experts, index_t chosen);
/// @throws std::invalid_argument unless the groups divide the experts and the kept ones have at least `chosen` of them
void require_choosable(index_t experts, index_t chosen, const GroupLimit& limit);

/// The scores with those outside the `kept` best groups replaced by \f$ -\infty \f$: 0 would win over a negative score.
/// @param group_score of one group's scores
/// @throws std::invalid_argument unless the groups divide the scores
List<float> keep_best_groups(std::span<const float> scores, const GroupLimit& limit,
                                    float (*group_score)(std::span<const float>));

}  // namespace kv
