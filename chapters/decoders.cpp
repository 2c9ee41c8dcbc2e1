#include "chapters/decoders.hpp"

#include <algorithm>

#include "common/files/error.hpp"
#include "common/model/layer_stack.hpp"

namespace kv {
namespace {

void require_family(const Checkpoint& checkpoint, const Stage& stage) {
  const Family found = family(checkpoint.config());
  if (std::ranges::find(stage.families, found) == stage.families.end())
    throw Error("stage '" + std::string(stage.name) + "' does not run on " + checkpoint.directory().string() +
                ", whose attention is " + std::string(name(found)));
}

MakeLayer layer_maker(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits) {
  const MakeLayers* const make = std::get_if<MakeLayers>(&stage.make);
  if (!make) throw Error("stage '" + std::string(stage.name) + "' makes the whole model: its layers have no parts to exchange");
  return (*make)(checkpoint, limits, stage.options);
}

}  // namespace

Decoder make_decoder(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits) {
  const MakeTransformer* const whole = std::get_if<MakeTransformer>(&stage.make);
  if (!whole) return make_decoder(checkpoint, stage, limits, {});
  require_family(checkpoint, stage);
  return {(*whole)(checkpoint, limits, stage.options), limits};
}

Decoder make_decoder(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits,
                     const MakeFeedForward& make_feed_forward) {
  require_family(checkpoint, stage);
  const ModelSizes sizes = model_sizes(checkpoint.config());
  const index_t M = sizes.width, V = sizes.vocabulary;
  const std::string embedding = "model.embed_tokens.weight";
  LayerStackParts parts{.embedding = checkpoint.matrix(embedding, V, M),
                        .embedding_owner = std::make_shared<Checkpoint>(checkpoint),
                        .layers = {},
                        .final_norm = checkpoint.vector("model.norm.weight", M),
                        .head = checkpoint.linear(sizes.tied_embeddings ? embedding : "lm_head.weight", V, M),
                        .norm_epsilon = sizes.norm_epsilon};
  const MakeLayer make_layer = layer_maker(checkpoint, stage, limits);
  for (index_t layer = 0; layer < sizes.layers; ++layer) {
    LayerHalves halves = make_layer(layer);
    if (make_feed_forward) halves.feed_forward = make_feed_forward(checkpoint, layer);
    if (!halves.feed_forward) halves.feed_forward = feed_forward(checkpoint, layer);
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    parts.layers.push_back({.attention_norm = checkpoint.vector(prefix + "input_layernorm.weight", M),
                            .attention = std::move(halves.attention),
                            .feed_forward_norm = checkpoint.vector(prefix + "post_attention_layernorm.weight", M),
                            .feed_forward = std::move(halves.feed_forward)});
  }
  return {std::make_unique<LayerStack>(std::move(parts)), limits};
}

std::unique_ptr<Attention> make_attention(const Checkpoint& checkpoint, const Stage& stage, index_t layer, const Limits& limits) {
  return layer_maker(checkpoint, stage, limits)(layer).attention;
}

}  // namespace kv
