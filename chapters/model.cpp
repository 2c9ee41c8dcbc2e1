#include "chapters/model.hpp"

#include <algorithm>

#include "common/error.hpp"

namespace kv {

Decoder make_decoder(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits,
                     const MakeFeedForward& make_feed_forward) {
  const Family found = family(checkpoint.config());
  if (std::ranges::find(stage.families, found) == stage.families.end())
    throw Error("stage '" + std::string(stage.name) + "' does not run on " + checkpoint.directory().string() +
                ", whose attention is " + std::string(name(found)));
  const ModelSizes sizes = model_sizes(checkpoint.config());
  const index_t M = sizes.width, V = sizes.vocabulary;
  const std::string embedding = "model.embed_tokens.weight";
  DecoderParts parts{.embedding = checkpoint.matrix(embedding, V, M),
                     .embedding_owner = std::make_shared<Checkpoint>(checkpoint),
                     .layers = {},
                     .final_norm = checkpoint.vector("model.norm.weight", M),
                     .head = checkpoint.linear(sizes.tied_embeddings ? embedding : "lm_head.weight", V, M),
                     .norm_epsilon = sizes.norm_epsilon,
                     .limits = limits};
  for (index_t layer = 0; layer < sizes.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    parts.layers.push_back({.attention_norm = checkpoint.vector(prefix + "input_layernorm.weight", M),
                            .attention = stage.make(checkpoint, layer, limits),
                            .feed_forward_norm = checkpoint.vector(prefix + "post_attention_layernorm.weight", M),
                            .feed_forward = make_feed_forward(checkpoint, layer)});
  }
  return Decoder(std::move(parts));
}

}  // namespace kv
