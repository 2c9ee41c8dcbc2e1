#pragma once
/// @file
/// A checkpoint's weights by what they do, in place in the mapped file: the one reader of tensor names. Layers on the CPU are
/// packed from it, chapter 6 uploads it.
#include <optional>
#include <variant>
#include <vector>

#include "chapters/01_uncached_attention/head_projection.hpp"
#include "chapters/04_latent_cache/latent_sizes.hpp"
#include "chapters/05_mixture_of_experts/routing_rule.hpp"
#include "common/checkpoint/checkpoint.hpp"

namespace kv {

/// Llama, Mistral, Qwen.
struct GroupedTensors {
  LinearView query, key, value, output;  // (H*D,M) (G*D,M) (G*W,M) (M,H*W)
  Tensor<1> query_norm, key_norm;        // (D), or empty
  HeadSizes sizes;
};

/// DeepSeek-V2, V3.
struct LatentTensors {
  std::optional<LinearView> query_down;  // (query_rank,M)
  Tensor<1> query_norm;                  // (query_rank), or empty
  MatrixView query_up;                   // (H*D,query_rank), or (H*D,M)
  LinearView latent_down;                // (R+P,M)
  Tensor<1> latent_norm;                 // (R)
  MatrixView latent_up;                  // (H*(plain+W),R)
  LinearView output;                     // (M,H*W)
  LatentSizes sizes;
  float softmax_factor;
};
using AttentionTensors = std::variant<GroupedTensors, LatentTensors>;

/// Of the heads, those that latents are expanded to among them.
HeadSizes head_sizes(const AttentionTensors& tensors);
LinearView& output_matrix(AttentionTensors& tensors);

struct SwiGluTensors {
  LinearView gate, up, down;  // (F,M) (F,M) (M,F)
};

struct MixtureTensors {
  MatrixView gate;  // (E,M)
  RoutingRule rule;
  std::vector<SwiGluTensors> experts;
  std::optional<SwiGluTensors> shared;
  std::optional<MatrixView> shared_gate;  ///< (1,M): its sigmoid is the factor of the shared expert
};
using FeedForwardTensors = std::variant<SwiGluTensors, MixtureTensors>;

struct LayerTensors {
  Tensor<1> attention_norm;  // (M)
  AttentionTensors attention;
  Tensor<1> feed_forward_norm;  // (M)
  FeedForwardTensors feed_forward;
};

struct ModelTensors {
  MatrixView embedding;  // (V,M)
  std::vector<LayerTensors> layers;
  Tensor<1> final_norm;  // (M)
  MatrixView head;       // (V,M)
  float norm_epsilon;
  Rope rope;
};

/// Everything that the model multiplies with. Views are good for as long as any copy of the checkpoint lives.
/// @throws Error naming a tensor that is missing or has another shape than config.json says, or that is there and would be left
/// out, or a field of config.json
ModelTensors model_tensors(const Checkpoint& checkpoint);

/// Matrices that layers on the CPU multiply with, all experts among them.
std::vector<MatrixView> multiplied(const ModelTensors& tensors);

/// Of all layers; no_window: every token sees all before it.
index_t shortest_window(const ModelTensors& tensors);

/// Halves of one layer.
AttentionTensors attention_tensors(const Checkpoint& checkpoint, index_t layer);
FeedForwardTensors feed_forward_tensors(const Checkpoint& checkpoint, index_t layer);

/// Of one layer's keys and values, in e4m3: \f$ \hat x = s \operatorname{round}(x / s) \f$.
struct CacheScales {
  float key, value;
};
/// The tensors `k_scale` and `v_scale` of a layer's attention; none where config.json has no kv_cache_scheme. Who keeps rows in
/// another format does not ask.
/// @throws Error when one is missing, has not one element, or is no positive finite number
std::optional<CacheScales> cache_scales(const Checkpoint& checkpoint, index_t layer);

}  // namespace kv
