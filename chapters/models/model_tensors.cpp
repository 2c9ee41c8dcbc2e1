#include "chapters/models/model_tensors.hpp"

#include "chapters/models/architectures.hpp"
#include "chapters/models/grouped_config.hpp"
#include "chapters/models/latent_config.hpp"
#include "chapters/models/mixture_config.hpp"
#include "chapters/models/model_sizes.hpp"
#include "chapters/models/rope_config.hpp"

namespace kv {
namespace {

/// The tensors below one name.
struct Module {
  const Checkpoint& checkpoint;
  std::string path;

  Module at(std::string_view name) const { return {checkpoint, path + std::string(name) + "."}; }
  Module at(index_t number) const { return at(std::to_string(number)); }
  MatrixView matrix(std::string_view name, index_t rows, index_t columns) const {
    return checkpoint.matrix(at(name).path + "weight", rows, columns);
  }
  Tensor<1> vector(std::string_view name, index_t size) const { return checkpoint.vector(at(name).path + "weight", size); }
};

Module model(const Checkpoint& checkpoint) { return {checkpoint, "model."}; }
Module layer_of(const Checkpoint& checkpoint, index_t layer) { return model(checkpoint).at("layers").at(layer); }

GroupedTensors grouped_tensors(const Module& module, const Json& config) {
  const GroupedConfig grouped = grouped_config(config);
  const index_t H = grouped.heads.query_heads, G = grouped.heads.key_value_heads, D = grouped.heads.key_width;
  const index_t W = grouped.heads.value_width, M = model_sizes(config).width;
  const auto head_norm = [&](const char* name) { return grouped.head_norms ? module.vector(name, D) : empty<1>({0}); };
  return {.query = module.matrix("q_proj", H * D, M),
          .key = module.matrix("k_proj", G * D, M),
          .value = module.matrix("v_proj", G * W, M),
          .output = module.matrix("o_proj", M, H * W),
          .query_norm = head_norm("q_norm"),
          .key_norm = head_norm("k_norm"),
          .sizes = grouped.heads};
}

LatentTensors latent_tensors(const Module& module, const Json& config) {
  const LatentSizes sizes = latent_config(config);
  const index_t M = sizes.width, H = sizes.heads, R = sizes.rank, queries = H * sizes.key_width();
  LatentTensors tensors{.query_down = {},
                        .query_norm = empty<1>({0}),
                        .query_up = {},
                        .latent_down = module.matrix("kv_a_proj_with_mqa", sizes.row_width(), M),
                        .latent_norm = module.vector("kv_a_layernorm", R),
                        .latent_up = module.matrix("kv_b_proj", H * (sizes.plain_width + sizes.value_width), R),
                        .output = module.matrix("o_proj", M, H * sizes.value_width),
                        .sizes = sizes,
                        .softmax_factor = softmax_factor(config)};
  if (sizes.query_rank) {
    tensors.query_down = module.matrix("q_a_proj", *sizes.query_rank, M);
    tensors.query_norm = module.vector("q_a_layernorm", *sizes.query_rank);
    tensors.query_up = module.matrix("q_b_proj", queries, *sizes.query_rank);
  } else {
    tensors.query_up = module.matrix("q_proj", queries, M);
  }
  return tensors;
}

SwiGluTensors swiglu_tensors(const Module& module, index_t F, index_t M, const MixtureKind* names = nullptr) {
  return {module.matrix(names ? names->gate : "gate_proj", F, M), module.matrix(names ? names->up : "up_proj", F, M),
          module.matrix(names ? names->down : "down_proj", M, F)};
}

MixtureTensors mixture_tensors(const Module& module, const Json& config, const MixtureKind& names) {
  const auto [E, K, F, shared_width] = mixture_sizes(config);
  const index_t M = model_sizes(config).width;
  MixtureTensors tensors{.gate = module.matrix("gate", E, M), .rule = routing_rule(config), .experts = {}, .shared = {}};
  if (tensors.rule.scores == RoutingRule::Scores::sigmoid_with_bias)
    tensors.rule.bias = module.checkpoint.vector(module.path + "gate.e_score_correction_bias", E);
  for (index_t e = 0; e < E; ++e) tensors.experts.push_back(swiglu_tensors(module.at("experts").at(e), F, M, &names));
  if (shared_width != 0) tensors.shared = swiglu_tensors(module.at("shared_experts"), shared_width, M);
  return tensors;
}

/// Width of the rotated part of a head.
index_t rope_width(const Json& config) {
  return family(config) == Family::gqa ? grouped_config(config).heads.key_width : latent_config(config).rope_width;
}

}  // namespace

AttentionTensors attention_tensors(const Checkpoint& checkpoint, index_t layer) {
  const Json& config = checkpoint.config();
  const Module module = layer_of(checkpoint, layer).at("self_attn");
  if (family(config) == Family::gqa) return grouped_tensors(module, config);
  return latent_tensors(module, config);
}

FeedForwardTensors feed_forward_tensors(const Checkpoint& checkpoint, index_t layer) {
  const Json& config = checkpoint.config();
  const Module module = layer_of(checkpoint, layer);
  if (!is_mixture(config, layer)) {
    const ModelSizes sizes = model_sizes(config);
    return swiglu_tensors(module.at("mlp"), sizes.feed_forward_width, sizes.width);
  }
  const MixtureKind& names = *architecture(config).mixture;
  return mixture_tensors(module.at(names.module), config, names);
}

ModelTensors model_tensors(const Checkpoint& checkpoint) {
  const Json& config = checkpoint.config();
  const ModelSizes sizes = model_sizes(config);
  const index_t V = sizes.vocabulary, M = sizes.width;
  const MatrixView embedding = model(checkpoint).matrix("embed_tokens", V, M);
  ModelTensors tensors{.embedding = embedding,
                       .layers = {},
                       .final_norm = model(checkpoint).vector("norm", M),
                       .head = sizes.tied_embeddings ? embedding : Module{checkpoint, ""}.matrix("lm_head", V, M),
                       .norm_epsilon = sizes.norm_epsilon,
                       .rope = rope_config(config, rope_width(config))};
  for (index_t layer = 0; layer < sizes.layers; ++layer)
    tensors.layers.push_back({.attention_norm = layer_of(checkpoint, layer).vector("input_layernorm", M),
                              .attention = attention_tensors(checkpoint, layer),
                              .feed_forward_norm = layer_of(checkpoint, layer).vector("post_attention_layernorm", M),
                              .feed_forward = feed_forward_tensors(checkpoint, layer)});
  return tensors;
}

}  // namespace kv
