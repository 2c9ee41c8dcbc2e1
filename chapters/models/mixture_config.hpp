#pragma once
/// @file
/// The published mixtures of experts that the book runs: which fields of config.json and which tensor names each has.
#include <optional>
#include <vector>

#include "chapters/05_mixture_of_experts/mixture.hpp"
#include "chapters/05_mixture_of_experts/routing_rule.hpp"
#include "chapters/models/tensor_names.hpp"
#include "common/checkpoint/checkpoint.hpp"

namespace kv {

/// Sizes of one layer's mixture.
struct MixtureSizes {
  index_t experts, chosen;
  index_t expert_width;  ///< F of one routed expert
  index_t shared_width;  ///< F of the shared expert; 0: there is none
};

/// Whether a layer is a mixture or dense.
/// @throws Error naming a field that is missing or outside its range
bool is_mixture(const Json& config, index_t layer);

/// Of a config whose architecture has mixtures.
/// @throws Error naming a field that is missing or outside its range
MixtureSizes mixture_sizes(const Json& config);

/// Tensors of a layer's mixture.
struct MixtureNames {
  MatrixName gate;  // (E,M)
  std::vector<SwiGluNames> experts;
  std::optional<SwiGluNames> shared;
};
MixtureNames mixture_names(const Json& config, index_t layer);

/// How a layer's mixture chooses.  @throws Error naming a combination of options that no published model has
RoutingRule routing_rule(const Checkpoint& checkpoint, index_t layer);

/// The parts of a layer's mixture. Shapes of all experts' tensors are checked here, their weights read when an expert is
/// first chosen.
/// @throws Error naming a tensor, or a combination of router options that no published model has
MixtureParts mixture_parts(const Checkpoint& checkpoint, index_t layer);

/// What the feed-forward halves of a model have and use.
struct FeedForwardCost {
  index_t layers, mixture_layers;
  index_t parameters;         ///< of all layers
  index_t active_parameters;  ///< that one token is multiplied with: 2 FLOPs and one weight's bytes for each
};

/// From config.json alone; dense models as well.
FeedForwardCost feed_forward_cost(const Json& config);

}  // namespace kv
