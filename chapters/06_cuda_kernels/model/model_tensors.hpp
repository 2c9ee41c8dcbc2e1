#pragma once
/// @file
/// A checkpoint's weights as the CUDA stages take them over: in place in the mapped file, named by what they do. Nothing
/// here needs CUDA.
#include <optional>
#include <variant>
#include <vector>

#include "chapters/01_uncached_attention/head_projection.hpp"
#include "chapters/04_latent_cache/latent_config.hpp"
#include "chapters/05_mixture_of_experts/routing_rule.hpp"
#include "common/tensor/linear.hpp"
#include "common/tensor/rope.hpp"

namespace kv::cuda {

/// Llama, Qwen3.
struct GroupedTensors {
  kv::MatrixView query, key, value, output;  // (H*D,M) (G*D,M) (G*W,M) (M,H*W)
  Tensor<1> query_norm, key_norm;            // (D), or empty
  HeadSizes sizes;
};

/// DeepSeek-V2, V3.
struct LatentTensors {
  std::optional<kv::MatrixView> query_down;  // (query_rank,M)
  Tensor<1> query_norm;                      // (query_rank), or empty
  kv::MatrixView query_up;                   // (H*D,query_rank), or (H*D,M)
  kv::MatrixView latent_down;                // (R+P,M)
  Tensor<1> latent_norm;                     // (R)
  kv::MatrixView latent_up;                  // (H*(plain+W),R)
  kv::MatrixView output;                     // (M,H*W)
  LatentSizes sizes;
  float softmax_factor;
};

struct SwiGluTensors {
  kv::MatrixView gate, up, down;  // (F,M) (F,M) (M,F)
};

struct MixtureTensors {
  kv::MatrixView gate;  // (E,M)
  RoutingRule rule;
  std::vector<SwiGluTensors> experts;
  std::optional<SwiGluTensors> shared;
};

struct LayerTensors {
  Tensor<1> attention_norm;  // (M)
  std::variant<GroupedTensors, LatentTensors> attention;
  Tensor<1> feed_forward_norm;  // (M)
  std::variant<SwiGluTensors, MixtureTensors> feed_forward;
};

struct ModelTensors {
  kv::MatrixView embedding;  // (V,M)
  std::vector<LayerTensors> layers;
  Tensor<1> final_norm;  // (M)
  kv::MatrixView head;   // (V,M)
  float norm_epsilon;
  Rope rope;
};

}  // namespace kv::cuda
