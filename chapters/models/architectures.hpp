#pragma once
/// @file
/// The one table of the published architectures that the book runs.
#include "common/files/json.hpp"

namespace kv {

/// How a model makes its heads.
enum class Family {
  gqa,  ///< keys and values from matrices of their own: Llama, Qwen3
  mla,  ///< keys and values of all heads from one latent: DeepSeek-V2, V3
};

/// "GQA"
std::string_view name(Family family);

/// Whose rule of routing.
enum class RouterKind { mixtral, qwen3, deepseek_v2, deepseek_v3 };

/// How an architecture spells its mixtures of experts.
struct MixtureKind {
  RouterKind router;
  std::string_view experts, other_experts;  // fields: published configs, transformers 5
  std::string_view expert_width;            // field
  std::string_view module;                  // tensors: model.layers.N.MODULE.
  std::string_view gate, up, down;          // tensors of an expert
};

struct Architecture {
  std::string_view name;  // config.json: architectures[0]
  Family family;
  bool head_norms;             ///< a norm on every query and key head
  double rope_theta;           ///< where config.json gives none
  const MixtureKind* mixture;  ///< null: every layer is dense
};

/// @throws Error naming an architecture that the book does not run
const Architecture& architecture(const Json& config);

/// The family that a config.json describes.
/// @throws Error naming an architecture, or an option of one, that the book does not run
Family family(const Json& config);

}  // namespace kv
