#include "chapters/models/mixture_config.hpp"

#include "chapters/models/architectures.hpp"
#include "chapters/models/config_field.hpp"
#include "chapters/models/model_sizes.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

const MixtureKind& kind_of(const Json& config) {
  const Architecture& found = architecture(config);
  if (found.mixture) return *found.mixture;
  throw Error(config.where() + ": " + std::string(found.name) + " has no mixture of experts");
}

float scaling_factor(const Json& config) {
  return static_cast<float>(number_field(config, "routed_scaling_factor", {1e-6, 1e6}));
}

/// @throws Error unless the groups divide the experts and those that are kept have enough of them
GroupLimit group_limit(const Json& config) {
  const MixtureSizes sizes = mixture_sizes(config);
  const GroupLimit limit{size_field(config, "n_group"), size_field(config, "topk_group")};
  if (sizes.experts % limit.groups != 0)
    throw Error(config.where() + ": n_group is " + std::to_string(limit.groups) + ", which does not divide " +
                std::to_string(sizes.experts) + " experts");
  if (limit.kept > limit.groups || limit.kept * (sizes.experts / limit.groups) < sizes.chosen)
    throw Error(config.where() + ": topk_group is " + std::to_string(limit.kept) + " of " +
                std::to_string(limit.groups) + " groups of " + std::to_string(sizes.experts / limit.groups) +
                ", from which " + std::to_string(sizes.chosen) + " experts cannot be chosen");
  return limit;
}

/// What DeepSeek calls a router by.
struct RouterName {
  std::string scoring, method;
  RouterName(const Json& config, std::string_view usual_scoring, std::string_view usual_method)
      : scoring(text_field(config, "scoring_func", usual_scoring)), method(text_field(config, "topk_method", usual_method)) {}
};

[[noreturn]] void refuse(const Json& config, const RouterName& router) {
  throw Error(config.where() + ": scoring_func '" + router.scoring + "' with topk_method '" + router.method +
              "' is no router that is known here (known: softmax with greedy or group_limited_greedy in DeepSeek-V2, "
              "sigmoid with noaux_tc in DeepSeek-V3)");
}

RoutingRule deepseek_v2_rule(const Json& config, RoutingRule rule) {
  if (flag_field(config, "norm_topk_prob"))
    throw Error(config.at("norm_topk_prob").where() +
                " is true; DeepSeek-V2's own code and transformers disagree about it, and no published model has it");
  const RouterName router(config, "softmax", "greedy");
  if (router.scoring != "softmax" || (router.method != "greedy" && router.method != "group_limited_greedy")) refuse(config, router);
  if (router.method != "greedy") rule.limit = group_limit(config);
  rule.scaling = scaling_factor(config);
  return rule;
}

RoutingRule deepseek_v3_rule(const Json& config, RoutingRule rule) {
  const RouterName router(config, "sigmoid", "noaux_tc");
  if (router.scoring != "sigmoid" || router.method != "noaux_tc") refuse(config, router);
  rule.scores = RoutingRule::Scores::sigmoid_with_bias;
  rule.limit = group_limit(config);
  rule.normalised = flag_field(config, "norm_topk_prob");
  rule.scaling = scaling_factor(config);
  return rule;
}

// ---- layers: which are mixtures ----

/// `mlp_only_layers` and `decoder_sparse_step`.
bool by_sparse_step(const Json& config, index_t layer) {
  if (config.has("mlp_only_layers")) {
    const Json dense = config.at("mlp_only_layers");
    for (index_t i = 0; i < dense.length(); ++i)
      if (dense.at(i).size() == layer) return false;
  }
  return (layer + 1) % size_field(config, "decoder_sparse_step") == 0;
}

/// `first_k_dense_replace` and `moe_layer_freq`, a number or a list with one for each layer.
bool after_dense_layers(const Json& config, index_t layer) {
  if (layer < size_field(config, "first_k_dense_replace", 0)) return false;
  if (config.has("moe_layer_freq") && config.at("moe_layer_freq").is_array())
    return config.at("moe_layer_freq").at(layer).size() != 0;
  return layer % size_field(config, "moe_layer_freq") == 0;
}

/// Published configs and transformers 5 spell it differently.
index_t expert_count(const Json& config, const MixtureKind& kind) {
  if (!config.has(kind.other_experts) && !config.has(kind.experts))
    throw Error(config.where() + ": has no " + std::string(kind.experts) + " (or " + std::string(kind.other_experts) + "), the number of experts");
  if (!config.has(kind.other_experts)) return size_field(config, kind.experts);
  const index_t E = size_field(config, kind.other_experts);
  if (config.has(kind.experts) && size_field(config, kind.experts) != E)
    throw Error(config.where() + ": " + std::string(kind.experts) + " and " + std::string(kind.other_experts) + " differ");
  return E;
}

/// F of the shared expert; 0: there is none.
index_t shared_width(const Json& config, const MixtureKind& kind, index_t F) {
  if (kind.shared.empty()) return 0;
  if (!kind.shared_gate.empty()) return size_field(config, "shared_expert_intermediate_size");
  const bool null = config.contains("n_shared_experts") && !config.has("n_shared_experts");
  return null ? 0 : size_field(config, "n_shared_experts", 0) * F;
}

}  // namespace

bool is_mixture(const Json& config, index_t layer) {
  const MixtureKind* const kind = architecture(config).mixture;
  if (!kind) return false;
  switch (kind->router) {
    case RouterKind::mixtral: return true;
    case RouterKind::qwen: return by_sparse_step(config, layer);
    case RouterKind::deepseek_v2:
    case RouterKind::deepseek_v3: return after_dense_layers(config, layer);
  }
  return false;
}

MixtureSizes mixture_sizes(const Json& config) {
  const MixtureKind& kind = kind_of(config);
  const index_t E = expert_count(config, kind), K = size_field(config, "num_experts_per_tok");
  if (K > E)
    throw Error(config.where() + ": num_experts_per_tok is " + std::to_string(K) + ", more than the " + std::to_string(E) +
                " experts there are");
  const index_t F = size_field(config, kind.expert_width);
  return {E, K, F, shared_width(config, kind, F)};
}

bool feed_forward_biases(const Json& config) { return architecture(config).feed_forward_biases && flag_field(config, "mlp_bias"); }

// [rule]
RoutingRule routing_rule(const Json& config) {
  const MixtureSizes sizes = mixture_sizes(config);
  RoutingRule rule{
      .scores = RoutingRule::Scores::softmax, .experts = sizes.experts, .chosen = sizes.chosen};
  switch (kind_of(config).router) {
    case RouterKind::mixtral: rule.scores = RoutingRule::Scores::softmax_of_chosen; return rule;
    case RouterKind::qwen: rule.normalised = flag_field(config, "norm_topk_prob"); return rule;
    case RouterKind::deepseek_v2: return deepseek_v2_rule(config, rule);
    case RouterKind::deepseek_v3: return deepseek_v3_rule(config, rule);
  }
  return rule;
}
// [rule]

FeedForwardCost feed_forward_cost(const Json& config) {
  const ModelSizes sizes = model_sizes(config);
  FeedForwardCost cost{.layers = sizes.layers, .mixture_layers = 0, .parameters = 0, .active_parameters = 0};
  for (index_t layer = 0; layer < sizes.layers; ++layer) cost.mixture_layers += is_mixture(config, layer);
  const index_t M = sizes.width;
  const auto add = [&](index_t layers, index_t parameters, index_t active) {
    cost.parameters += product({layers, parameters});
    cost.active_parameters += product({layers, active});
  };
  const auto swiglu = [&](index_t F) { return product({3, F, M}) + (feed_forward_biases(config) ? 2 * F + M : 0); };
  add(sizes.layers - cost.mixture_layers, swiglu(sizes.feed_forward_width), swiglu(sizes.feed_forward_width));
  if (cost.mixture_layers == 0) return cost;
  const auto [E, K, F, shared_width] = mixture_sizes(config);
  const index_t shared_gate = architecture(config).mixture->shared_gate.empty() ? 0 : M;
  const index_t of_all = E * M + (shared_width == 0 ? 0 : swiglu(shared_width) + shared_gate);
  add(cost.mixture_layers, of_all + product({3, E, F, M}), of_all + product({3, K, F, M}));
  return cost;
}

}  // namespace kv
