#pragma once
/// @file
/// A published routing rule as data: what a config says, before it becomes a router here or a kernel elsewhere.
#include <memory>

#include "chapters/05_mixture_of_experts/top_k.hpp"

namespace kv {

struct RoutingRule {
  /// What the gate's logits become, and what the choice looks at.
  enum class Scores {
    softmax_of_chosen,  ///< Mixtral: chosen by the logits; softmax over the chosen
    softmax,            ///< DeepSeek-V2, Qwen3: chosen by the softmax over all; a group counts as its best expert
    sigmoid_with_bias,  ///< DeepSeek-V3: chosen by sigmoid + bias; a group counts as the sum of its two best
  };
  Scores scores;
  index_t experts, chosen;
  GroupLimit limit = {};    ///< 1 of 1: no groups
  bool normalised = false;  ///< the weights of the chosen are divided by their sum
  float scaling = 1.0f;     ///< then multiplied by this
  Tensor<1> bias = {};      ///< (E), sigmoid_with_bias only
};

/// Refuses combinations that no published model has, and nobody should compute in silence: a softmax over the chosen with
/// anything else, normalised weights of a softmax with groups or a factor, a bias that does not fit.
/// @throws std::invalid_argument
void require_published(const RoutingRule& rule);

/// The router of the book that follows a rule.
/// @throws std::invalid_argument as require_published() and the routers do
std::shared_ptr<const Router> make_router(const RoutingRule& rule);

}  // namespace kv
