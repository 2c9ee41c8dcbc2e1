#pragma once
/// @file
/// The published architectures that the book runs: which fields of config.json and which tensor names each has.
#include <memory>
#include <optional>

#include "chapters/01_uncached_attention/head_projection.hpp"
#include "chapters/04_latent_cache/absorption.hpp"
#include "chapters/04_latent_cache/latent_projection.hpp"
#include "chapters/models/tensor_names.hpp"
#include "common/checkpoint/checkpoint.hpp"
#include "common/model/feed_forward.hpp"

namespace kv {

/// How a model makes its heads.
enum class Family {
  gqa,  ///< keys and values from matrices of their own: Llama, Qwen3
  mla,  ///< keys and values of all heads from one latent: DeepSeek-V2, V3
};

/// "GQA"
std::string_view name(Family family);

/// Sizes that every architecture has.
struct ModelSizes {
  index_t layers, width, feed_forward_width, vocabulary, context;
  float norm_epsilon;
  bool tied_embeddings;
};

/// The family that a config.json describes.
/// @throws Error naming an architecture, or an option of one, that the book does not run
Family family(const Json& config);

/// @throws Error naming a field that is missing or outside its range
ModelSizes model_sizes(const Json& config);

/// Heads of the GQA family.
HeadSizes grouped_sizes(const Json& config);

/// Tensors of a layer's attention. Norms without a name are not there.
struct GroupedNames {
  MatrixName query, key, value, output;  // (H*D,M) (G*D,M) (G*D,M) (M,H*D)
  std::string query_norm, key_norm;      // (D)
};
GroupedNames grouped_names(const Json& config, index_t layer);

struct LatentNames {
  std::optional<MatrixName> query_down;  // (query_rank,M)
  std::string query_norm;                // (query_rank)
  MatrixName query_up;                   // (H*D,query_rank), or (H*D,M)
  MatrixName latent_down;                // (R+P,M)
  std::string latent_norm;               // (R)
  MatrixName latent_up;                  // (H*(plain+W),R)
  MatrixName output;                     // (M,H*W)
};
LatentNames latent_names(const Json& config, index_t layer);

/// Tensors of a dense layer's feed-forward half.
SwiGluNames dense_names(const Json& config, index_t layer);

/// Who makes the heads of a layer.
std::shared_ptr<const HeadProjection> head_projection(const Checkpoint& checkpoint, index_t layer);

/// The same for the MLA family, with its latents, and the matrices that let heads work on them.
std::shared_ptr<const LatentProjection> latent_projection(const Checkpoint& checkpoint, index_t layer);
Absorption absorption(const Checkpoint& checkpoint, index_t layer);

/// The feed-forward half of a layer: dense, or a mixture of experts.
std::shared_ptr<const FeedForward> feed_forward(const Checkpoint& checkpoint, index_t layer);

}  // namespace kv
