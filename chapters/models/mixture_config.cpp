#include "chapters/models/mixture_config.hpp"

#include <array>

#include "chapters/models/architectures.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

/// How one architecture spells its mixture.
struct Spelling {
  std::string_view architecture;             // config.json: architectures[0]
  std::string_view experts, other_experts;   // fields: published configs, transformers 5
  std::string_view expert_width;             // field
  std::string_view module;                   // tensors: model.layers.N.<module>.
  std::string_view gate, up, down;           // tensors of an expert
  RoutingRule (*rule)(const Checkpoint& checkpoint, const std::string& prefix);
  bool (*has_mixture)(const Json& config, index_t layer);
};

// ---- config.json ----

std::string text_or(const Json& config, std::string_view key, std::string_view fallback) {
  return config.has(key) ? config.at(key).text() : std::string(fallback);
}

index_t at_least(const Json& config, std::string_view key, index_t least) {
  const Json value = config.at(key);
  const index_t size = value.size();
  if (size < least || size > (index_t{1} << 31))
    throw Error(value.where() + " is " + std::to_string(size) + "; it must be at least " + std::to_string(least) +
                " and at most 2^31");
  return size;
}

index_t size_or(const Json& config, std::string_view key, index_t fallback, index_t least) {
  return config.has(key) ? at_least(config, key, least) : fallback;
}

float scaling_factor(const Json& config) {
  if (!config.has("routed_scaling_factor")) return 1.0f;
  const double value = config.at("routed_scaling_factor").number();
  if (!(value > 0.0 && value < 1e6)) throw Error(config.at("routed_scaling_factor").where() + " must be positive and below a million");
  return static_cast<float>(value);
}

/// @throws Error unless the groups divide the experts and those that are kept have enough of them
GroupLimit group_limit(const Json& config) {
  const MixtureSizes sizes = mixture_sizes(config);
  const GroupLimit limit{at_least(config, "n_group", 1), at_least(config, "topk_group", 1)};
  if (sizes.experts % limit.groups != 0)
    throw Error(config.at("n_group").where() + " is " + std::to_string(limit.groups) + ", which does not divide " +
                std::to_string(sizes.experts) + " experts");
  if (limit.kept > limit.groups || limit.kept * (sizes.experts / limit.groups) < sizes.chosen)
    throw Error(config.at("topk_group").where() + " is " + std::to_string(limit.kept) + " of " +
                std::to_string(limit.groups) + " groups of " + std::to_string(sizes.experts / limit.groups) +
                ", from which " + std::to_string(sizes.chosen) + " experts cannot be chosen");
  return limit;
}

[[noreturn]] void refuse_router(const Json& config, const std::string& scoring, const std::string& method) {
  throw Error(config.where() + ": scoring_func '" + scoring + "' with topk_method '" + method +
              "' is no router that is known here (known: softmax with greedy or group_limited_greedy in DeepSeek-V2, "
              "sigmoid with noaux_tc in DeepSeek-V3)");
}

// ---- routers: the config decides ----

RoutingRule mixtral_rule(const Checkpoint& checkpoint, const std::string&) {
  const MixtureSizes sizes = mixture_sizes(checkpoint.config());
  return {.scores = RoutingRule::Scores::softmax_of_chosen, .experts = sizes.experts, .chosen = sizes.chosen};
}

RoutingRule qwen3_rule(const Checkpoint& checkpoint, const std::string&) {
  const Json& config = checkpoint.config();
  const MixtureSizes sizes = mixture_sizes(config);
  return {.scores = RoutingRule::Scores::softmax,
          .experts = sizes.experts,
          .chosen = sizes.chosen,
          .normalised = config.has("norm_topk_prob") && config.at("norm_topk_prob").flag()};
}

RoutingRule deepseek_v2_rule(const Checkpoint& checkpoint, const std::string&) {
  const Json& config = checkpoint.config();
  const MixtureSizes sizes = mixture_sizes(config);
  if (config.has("norm_topk_prob") && config.at("norm_topk_prob").flag())
    throw Error(config.at("norm_topk_prob").where() +
                " is true; DeepSeek-V2's own code and transformers disagree about it, and no published model has it");
  const std::string scoring = text_or(config, "scoring_func", "softmax"), method = text_or(config, "topk_method", "greedy");
  if (scoring != "softmax" || (method != "greedy" && method != "group_limited_greedy")) refuse_router(config, scoring, method);
  return {.scores = RoutingRule::Scores::softmax,
          .experts = sizes.experts,
          .chosen = sizes.chosen,
          .limit = method == "greedy" ? GroupLimit{} : group_limit(config),
          .scaling = scaling_factor(config)};
}

RoutingRule deepseek_v3_rule(const Checkpoint& checkpoint, const std::string& prefix) {
  const Json& config = checkpoint.config();
  const MixtureSizes sizes = mixture_sizes(config);
  const std::string scoring = text_or(config, "scoring_func", "sigmoid"), method = text_or(config, "topk_method", "noaux_tc");
  if (scoring != "sigmoid" || method != "noaux_tc") refuse_router(config, scoring, method);
  return {.scores = RoutingRule::Scores::sigmoid_with_bias,
          .experts = sizes.experts,
          .chosen = sizes.chosen,
          .limit = group_limit(config),
          .normalised = !config.has("norm_topk_prob") || config.at("norm_topk_prob").flag(),
          .scaling = scaling_factor(config),
          .bias = checkpoint.vector(prefix + "gate.e_score_correction_bias", sizes.experts)};
}

// ---- layers: which are mixtures ----

bool in_every_layer(const Json&, index_t) { return true; }

/// `mlp_only_layers` and `decoder_sparse_step`.
bool by_sparse_step(const Json& config, index_t layer) {
  if (config.has("mlp_only_layers")) {
    const Json dense = config.at("mlp_only_layers");
    for (index_t i = 0; i < dense.length(); ++i)
      if (dense.at(i).size() == layer) return false;
  }
  return (layer + 1) % size_or(config, "decoder_sparse_step", 1, 1) == 0;
}

/// `first_k_dense_replace` and `moe_layer_freq`.
bool after_dense_layers(const Json& config, index_t layer) {
  return config.has("n_routed_experts") && layer >= size_or(config, "first_k_dense_replace", 0, 0) &&
         layer % size_or(config, "moe_layer_freq", 1, 1) == 0;
}

// [spellings]
constexpr Spelling deepseek{"", "n_routed_experts", "num_local_experts", "moe_intermediate_size", "mlp",
                            "gate_proj", "up_proj", "down_proj", nullptr, after_dense_layers};

constexpr Spelling with(Spelling spelling, std::string_view architecture, decltype(Spelling::rule) rule) {
  spelling.architecture = architecture;
  spelling.rule = rule;
  return spelling;
}

constexpr std::array spellings{
    Spelling{"MixtralForCausalLM", "num_local_experts", "num_experts", "intermediate_size", "block_sparse_moe",
             "w1", "w3", "w2", mixtral_rule, in_every_layer},
    Spelling{"Qwen3MoeForCausalLM", "num_experts", "num_local_experts", "moe_intermediate_size", "mlp",
             "gate_proj", "up_proj", "down_proj", qwen3_rule, by_sparse_step},
    with(deepseek, "DeepseekV2ForCausalLM", deepseek_v2_rule),
    with(deepseek, "DeepseekV3ForCausalLM", deepseek_v3_rule),
};
// [spellings]

/// Null for an architecture without mixtures.
const Spelling* find_spelling(const Json& config) {
  const std::string name = config.at("architectures").at(index_t{0}).text();
  const auto found = std::ranges::find(spellings, name, &Spelling::architecture);
  return found == spellings.end() ? nullptr : &*found;
}

const Spelling& spelling(const Json& config) {
  if (const Spelling* found = find_spelling(config)) return *found;
  throw Error(config.at("architectures").where() + ": this architecture has no mixture of experts");
}

// ---- tensors ----

std::string mixture_prefix(const Spelling& spelling, index_t layer) {
  return "model.layers." + std::to_string(layer) + "." + std::string(spelling.module) + ".";
}

void require_matrix(const Checkpoint& checkpoint, const MatrixName& matrix) {
  const auto& [name, rows, columns] = matrix;
  const TensorEntry& entry = checkpoint.entry(name);
  if (!std::ranges::equal(entry.shape, std::array{rows, columns}))
    throw Error(checkpoint.directory().string() + ": tensor '" + name + "' has shape " + shape_text(entry.shape) +
                ", expected " + shape_text(std::array{rows, columns}));
}

std::shared_ptr<const FeedForward> dense(const Checkpoint& checkpoint, const SwiGluNames& names) {
  return std::make_shared<DenseFeedForward>(checkpoint.linear(names.gate.name, names.gate.rows, names.gate.columns),
                                            checkpoint.linear(names.up.name, names.up.rows, names.up.columns),
                                            checkpoint.linear(names.down.name, names.down.rows, names.down.columns));
}

}  // namespace

bool is_mixture(const Json& config, index_t layer) {
  const Spelling* const found = find_spelling(config);
  return found && found->has_mixture(config, layer);
}

MixtureSizes mixture_sizes(const Json& config) {
  const Spelling& names = spelling(config);
  const std::string_view field = config.has(names.experts) || !config.has(names.other_experts) ? names.experts : names.other_experts;
  const index_t E = at_least(config, field, 1), K = at_least(config, "num_experts_per_tok", 1);
  if (K > E)
    throw Error(config.at("num_experts_per_tok").where() + " is " + std::to_string(K) + ", more than the " +
                std::to_string(E) + " experts there are");
  const index_t F = at_least(config, names.expert_width, 1);
  return {E, K, F, size_or(config, "n_shared_experts", 0, 0) * F};
}

MixtureNames mixture_names(const Json& config, index_t layer) {
  const Spelling& spelled = spelling(config);
  const auto [E, K, F, shared_width] = mixture_sizes(config);
  const index_t M = model_sizes(config).width;
  const std::string prefix = mixture_prefix(spelled, layer);
  MixtureNames names{.gate = {prefix + "gate.weight", E, M}, .experts = {}, .shared = {}};
  for (index_t e = 0; e < E; ++e) {
    const std::string at = prefix + "experts." + std::to_string(e) + ".";
    const auto weight = [&](std::string_view name) { return at + std::string(name) + ".weight"; };
    names.experts.push_back({{weight(spelled.gate), F, M}, {weight(spelled.up), F, M}, {weight(spelled.down), M, F}});
  }
  const std::string shared = prefix + "shared_experts.";
  if (shared_width != 0)
    names.shared = {{shared + "gate_proj.weight", shared_width, M},
                    {shared + "up_proj.weight", shared_width, M},
                    {shared + "down_proj.weight", M, shared_width}};
  return names;
}

RoutingRule routing_rule(const Checkpoint& checkpoint, index_t layer) {
  const Spelling& spelled = spelling(checkpoint.config());
  return spelled.rule(checkpoint, mixture_prefix(spelled, layer));
}

// [parts]
MixtureParts mixture_parts(const Checkpoint& checkpoint, index_t layer) {
  const MixtureNames names = mixture_names(checkpoint.config(), layer);
  for (const SwiGluNames& expert : names.experts)
    for (const MatrixName* matrix : {&expert.gate, &expert.up, &expert.down}) require_matrix(checkpoint, *matrix);
  const auto load = [checkpoint, experts = names.experts](index_t e) { return dense(checkpoint, experts[e]); };
  return {.gate = checkpoint.linear(names.gate.name, names.gate.rows, names.gate.columns),
          .router = make_router(routing_rule(checkpoint, layer)),
          .experts = std::make_shared<ExpertPool>(names.experts.size(), load),
          .shared = names.shared ? dense(checkpoint, *names.shared) : nullptr};
}
// [parts]

FeedForwardCost feed_forward_cost(const Json& config) {
  const ModelSizes sizes = model_sizes(config);
  FeedForwardCost cost{.layers = sizes.layers, .mixture_layers = 0, .parameters = 0, .active_parameters = 0};
  for (index_t layer = 0; layer < sizes.layers; ++layer) {
    if (!is_mixture(config, layer)) {
      cost.parameters += 3 * sizes.width * sizes.feed_forward_width;
      cost.active_parameters += 3 * sizes.width * sizes.feed_forward_width;
      continue;
    }
    const auto [E, K, F, shared_width] = mixture_sizes(config);
    ++cost.mixture_layers;
    cost.parameters += sizes.width * (E + 3 * (E * F + shared_width));
    cost.active_parameters += sizes.width * (E + 3 * (K * F + shared_width));
  }
  return cost;
}

}  // namespace kv
