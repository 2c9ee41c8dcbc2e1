#include "chapters/models/architectures.hpp"

#include <array>

#include "chapters/models/config_field.hpp"
#include "chapters/models/quantization_config.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

// [table]
constexpr MixtureKind mixtral{RouterKind::mixtral, "num_local_experts", "num_experts", "intermediate_size",
                              "block_sparse_moe", "w1", "w3", "w2"};
constexpr MixtureKind qwen3{RouterKind::qwen3, "num_experts", "num_local_experts", "moe_intermediate_size",
                            "mlp", "gate_proj", "up_proj", "down_proj"};
constexpr MixtureKind deepseek_v2{RouterKind::deepseek_v2, "n_routed_experts", "num_local_experts", "moe_intermediate_size",
                                  "mlp", "gate_proj", "up_proj", "down_proj"};
constexpr MixtureKind deepseek_v3{RouterKind::deepseek_v3, "n_routed_experts", "num_local_experts", "moe_intermediate_size",
                                  "mlp", "gate_proj", "up_proj", "down_proj"};

constexpr std::array architectures{
    // name, family, norms on heads, RoPE's theta where none is given, mixtures of experts
    Architecture{"LlamaForCausalLM", Family::gqa, false, 1e4, nullptr},
    Architecture{"Qwen3ForCausalLM", Family::gqa, true, 1e4, nullptr},
    Architecture{"MixtralForCausalLM", Family::gqa, false, 1e6, &mixtral},
    Architecture{"Qwen3MoeForCausalLM", Family::gqa, true, 1e4, &qwen3},
    Architecture{"DeepseekV2ForCausalLM", Family::mla, false, 1e4, &deepseek_v2},
    Architecture{"DeepseekV3ForCausalLM", Family::mla, false, 1e4, &deepseek_v3},
};
// [table]

/// Options that would change the result and that the book does not compute.
void require_known_options(const Json& config) {
  for (const char* flag : {"attention_bias", "mlp_bias", "use_sliding_window"})
    if (flag_field(config, flag, false)) throw Error(config.at(flag).where() + " is true; this option is not supported");
  if (config.has("sliding_window") && !config.has("use_sliding_window"))
    throw Error(config.at("sliding_window").where() + " is set; sliding windows are not supported");
  if (const std::string act = text_field(config, "hidden_act", "silu"); act != "silu")
    throw Error(config.at("hidden_act").where() + " is '" + act + "'; only silu is supported");
  if (config.has("partial_rotary_factor") && config.at("partial_rotary_factor").number() != 1.0)
    throw Error(config.at("partial_rotary_factor").where() + " is not 1; this option is not supported");
  require_known_quantization(config);
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
  const Json names = config.at("architectures");
  const std::string found = names.length() == 0 ? "" : names.at(index_t{0}).text();
  std::string known;
  for (const Architecture& each : architectures) {
    if (each.name == found) return each;
    known += (known.empty() ? "" : ", ") + std::string(each.name);
  }
  throw Error(names.where() + ": architecture '" + found + "' is not supported (supported: " + known + ")");
}

Family family(const Json& config) {
  const Architecture& found = architecture(config);
  require_known_options(config);
  return found.family;
}

}  // namespace kv
