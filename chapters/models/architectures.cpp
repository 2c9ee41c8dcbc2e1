#include "chapters/models/architectures.hpp"

#include <algorithm>

#include "common/files/error.hpp"

namespace kv {
namespace {

constexpr MixtureKind mixtral{.router = RouterKind::mixtral, .experts = "num_local_experts", .other_experts = "num_experts",
                              .expert_width = "intermediate_size", .module = "block_sparse_moe",
                              .gate = "w1", .up = "w3", .down = "w2", .shared = "", .shared_gate = ""};

constexpr MixtureKind experts_of(RouterKind router, std::string_view experts, std::string_view shared = "", std::string_view shared_gate = "") {
  return {.router = router, .experts = experts, .other_experts = "num_local_experts", .expert_width = "moe_intermediate_size",
          .module = "mlp", .gate = "gate_proj", .up = "up_proj", .down = "down_proj", .shared = shared, .shared_gate = shared_gate};
}
constexpr MixtureKind qwen2_moe = experts_of(RouterKind::qwen, "num_experts", "shared_expert", "shared_expert_gate");
constexpr MixtureKind qwen3_moe = experts_of(RouterKind::qwen, "num_experts");
constexpr MixtureKind deepseek_v2 = experts_of(RouterKind::deepseek_v2, "n_routed_experts", "shared_experts");
constexpr MixtureKind deepseek_v3 = experts_of(RouterKind::deepseek_v3, "n_routed_experts", "shared_experts");

/// What transformers 5 takes for a field that is absent. Sizes that decide the shape of a tensor are not among them: a
/// config.json without them is damaged.
constexpr std::array usual_defaults{Default{"rope_theta", 1e4},         Default{"rms_norm_eps", 1e-6}, Default{"sliding_window", 4096},
                                    Default{"decoder_sparse_step", 1},  Default{"qkv_bias", true},     Default{"moe_layer_freq", 1},
                                    Default{"routed_scaling_factor", 1}, Default{"rope_interleave", true},
                                    Default{"max_window_layers", 28}};

// [table]
constexpr std::array architectures{
    Architecture{.name = "LlamaForCausalLM", .model_type = "llama",
                 .biases = BiasKind::by_attention_bias, .feed_forward_biases = true,
                 .defaults = {{{"max_position_embeddings", 2048}}}},
    Architecture{.name = "MistralForCausalLM", .model_type = "mistral",
                 .window = WindowKind::every_layer,
                 .defaults = {{{"max_position_embeddings", 131072}, {"num_key_value_heads", 8}}}},
    Architecture{.name = "MixtralForCausalLM", .model_type = "mixtral",
                 .window = WindowKind::every_layer, .mixture = &mixtral,
                 .defaults = {{{"max_position_embeddings", 131072}, {"num_key_value_heads", 8},
                               {"rope_theta", 1e6}, {"rms_norm_eps", 1e-5},
                               {"sliding_window", 0}, {"num_experts_per_tok", 2}}}},
    Architecture{.name = "Qwen2ForCausalLM", .model_type = "qwen2",
                 .biases = BiasKind::queries_keys_values, .window = WindowKind::later_layers,
                 .defaults = {{{"max_position_embeddings", 32768}, {"num_key_value_heads", 32}}}},
    Architecture{.name = "Qwen2MoeForCausalLM", .model_type = "qwen2_moe",
                 .biases = BiasKind::queries_keys_values, .window = WindowKind::even_early_layers,
                 .mixture = &qwen2_moe,
                 .defaults = {{{"max_position_embeddings", 32768}, {"num_key_value_heads", 16},
                               {"num_experts_per_tok", 4}}}},
    Architecture{.name = "Qwen3ForCausalLM", .model_type = "qwen3",
                 .head_norms = true, .biases = BiasKind::by_attention_bias,
                 .window = WindowKind::later_layers,
                 .defaults = {{{"max_position_embeddings", 32768}, {"num_key_value_heads", 32},
                               {"head_dim", 128}}}},
    Architecture{.name = "Qwen3MoeForCausalLM", .model_type = "qwen3_moe",
                 .head_norms = true, .biases = BiasKind::by_attention_bias,
                 .window = WindowKind::every_layer_if_used,
                 .mixture = &qwen3_moe,
                 .defaults = {{{"max_position_embeddings", 32768}, {"num_key_value_heads", 4},
                               {"num_experts_per_tok", 8}}}},
    Architecture{.name = "DeepseekV2ForCausalLM", .model_type = "deepseek_v2",
                 .family = Family::mla,
                 .biases = BiasKind::by_attention_bias, .feed_forward_biases = true,
                 .mixture = &deepseek_v2,
                 .defaults = {{{"max_position_embeddings", 2048}, {"first_k_dense_replace", 0},
                               {"n_shared_experts", 2}}}},
    Architecture{.name = "DeepseekV3ForCausalLM", .model_type = "deepseek_v3",
                 .family = Family::mla,
                 .biases = BiasKind::by_attention_bias, .mixture = &deepseek_v3,
                 .defaults = {{{"max_position_embeddings", 4096}, {"first_k_dense_replace", 3},
                               {"n_shared_experts", 1},
                               {"num_experts_per_tok", 8}, {"n_group", 8}, {"topk_group", 4},
                               {"norm_topk_prob", true}, {"routed_scaling_factor", 2.5}}}},
};
// [table]

/// "LlamaModel", what a checkpoint without an output matrix of its own may be called, for "LlamaForCausalLM".
std::string base_model(const Architecture& architecture) {
  return std::string(architecture.name.substr(0, architecture.name.find("ForCausalLM"))) + "Model";
}

}  // namespace

std::string_view name(Family family) {
  switch (family) {
    case Family::gqa: return "GQA";
    case Family::mla: return "MLA";
  }
  return "?";
}

const Architecture& architecture(const Json& config) {
  const bool named = config.has("architectures") && config.at("architectures").length() != 0;
  const std::string name = named ? config.at("architectures").at(index_t{0}).text() : "";
  const std::string type = config.has("model_type") ? config.at("model_type").text() : "";
  if (!named && type.empty()) throw Error(config.where() + ": has neither architectures nor model_type; is it a model's config.json?");
  const auto calls = [&](const Architecture& each) { return each.name == name || base_model(each) == name; };
  const auto found = std::ranges::find_if(architectures, [&](const Architecture& each) {
    return type.empty() ? calls(each) : each.model_type == type;
  });
  if (found != architectures.end() && (!named || calls(*found))) return *found;
  if (found != architectures.end())
    throw Error(config.where() + ": architectures names " + name + ", which is not of model_type '" + type + "'");
  std::string known;
  for (const Architecture& each : architectures) known += (known.empty() ? "" : ", ") + std::string(each.name);
  throw Error(config.where() + ": architecture '" + (named ? name : type) + "' is not supported (supported: " + known + ")");
}

std::optional<double> default_of(const Json& config, std::string_view key) {
  const auto find = [&](const auto& defaults) -> std::optional<double> {
    const auto found = std::ranges::find(defaults, key, &Default::key);
    return found == defaults.end() ? std::nullopt : std::optional(found->value);
  };
  const std::optional<double> own = find(architecture(config).defaults);
  return own ? own : find(usual_defaults);
}

}  // namespace kv
