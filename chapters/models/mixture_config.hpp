#pragma once
/// @file
/// Mixtures of experts, from config.json: which layers are one, how large, and how each routes.
#include "chapters/05_mixture_of_experts/routing_rule.hpp"
#include "common/files/json.hpp"

namespace kv {

/// Whether a layer is a mixture or dense.
/// @throws Error naming a field that is missing or outside its range
bool is_mixture(const Json& config, index_t layer);

/// Sizes of one layer's mixture.
struct MixtureSizes {
  index_t experts, chosen;
  index_t expert_width;  ///< F of one routed expert
  index_t shared_width;  ///< F of the shared expert; 0: there is none
};

/// Of a config whose architecture has mixtures.
/// @throws Error naming a field that is missing or outside its range
MixtureSizes mixture_sizes(const Json& config);

/// Whether the linear maps of dense feed-forward halves and shared experts add a bias.
bool feed_forward_biases(const Json& config);

/// How every mixture chooses. The bias of sigmoid_with_bias is each layer's own, and not here.
/// @throws Error naming a field that is missing or outside its range, or a combination that no published model has
RoutingRule routing_rule(const Json& config);

/// What the feed-forward halves of a model have and use.
struct FeedForwardCost {
  index_t layers, mixture_layers;
  index_t parameters;         ///< of all layers
  index_t active_parameters;  ///< that one token is multiplied with: 2 FLOPs and one weight's bytes for each
};

/// From config.json alone; dense models as well.
FeedForwardCost feed_forward_cost(const Json& config);

}  // namespace kv
