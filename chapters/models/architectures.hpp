#pragma once
/// @file
/// The one table of the published architectures that the book runs: how each differs from Llama, and what its config.json
/// means where it says nothing.
#include <array>
#include <optional>

#include "common/files/json.hpp"

namespace kv {

/// How a model makes its heads.
enum class Family {
  gqa,  ///< keys and values from matrices of their own: Llama, Mistral, Qwen
  mla,  ///< keys and values of all heads from one latent: DeepSeek-V2, V3
};

/// "GQA"
std::string_view name(Family family);

/// Which linear maps of attention add a bias.
enum class BiasKind {
  none,
  by_attention_bias,    ///< those that read or write the residual stream, where the config has `attention_bias`
  queries_keys_values,  ///< these three, unless the config has `qkv_bias` false
};

/// Which layers look back on a window of `sliding_window` tokens only. All but Mistral and Mixtral do so only where
/// `use_sliding_window` is set; the last two may have a list instead, `layer_types`.
enum class WindowKind {
  none,
  every_layer,
  every_layer_if_used,
  later_layers,       ///< from `max_window_layers` on
  even_early_layers,  ///< the even ones before `max_window_layers`
};

/// Whose rule of routing.
enum class RouterKind { mixtral, qwen, deepseek_v2, deepseek_v3 };

/// How an architecture spells its mixtures of experts.
struct MixtureKind {
  RouterKind router;
  std::string_view experts, other_experts;  // fields: published configs, transformers 5
  std::string_view expert_width;            // field
  std::string_view module;                  // tensors: model.layers.N.MODULE.
  std::string_view gate, up, down;          // tensors of an expert
  std::string_view shared, shared_gate;     // tensors: MODULE.SHARED., or none
};

/// What a field means that is absent.
struct Default {
  std::string_view key;
  double value;
};

struct Architecture {
  std::string_view name;        // config.json: architectures[0]
  std::string_view model_type;  // config.json
  Family family = Family::gqa;
  bool head_norms = false;            ///< a norm on every query and key head
  BiasKind biases = BiasKind::none;
  bool feed_forward_biases = false;   ///< where the config has `mlp_bias`
  WindowKind window = WindowKind::none;
  const MixtureKind* mixture = nullptr;  ///< null: every layer is dense
  std::array<Default, 8> defaults = {};  ///< where transformers 5 takes something else for an absent field than Llama's
};

/// By `model_type`, or by `architectures` where there is none.
/// @throws Error naming an architecture that the book does not run, or two names that do not belong together
const Architecture& architecture(const Json& config);

/// What a field that is absent means to the config's architecture; nothing: it must be there.
std::optional<double> default_of(const Json& config, std::string_view key);

}  // namespace kv
