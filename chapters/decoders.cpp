#include "chapters/decoders.hpp"

#include <algorithm>

#include "chapters/models/model_tensors.hpp"
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

std::unique_ptr<Transformer> make_stack(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits,
                                        const MakeFeedForward& make_feed_forward) {
  ModelTensors tensors = model_tensors(checkpoint);
  LayerStackParts parts{.embedding = tensors.embedding,
                        .embedding_owner = std::make_shared<Checkpoint>(checkpoint),
                        .layers = {},
                        .final_norm = std::move(tensors.final_norm),
                        .head = checkpoint.pack(tensors.head),
                        .norm_epsilon = tensors.norm_epsilon};
  const MakeLayer make_layer = layer_maker(checkpoint, stage, limits);
  for (index_t layer = 0; layer < tensors.layers.size(); ++layer) {
    LayerHalves halves = make_layer(layer);
    if (make_feed_forward) halves.feed_forward = make_feed_forward(checkpoint, layer);
    if (!halves.feed_forward) halves.feed_forward = feed_forward(checkpoint, layer);
    parts.layers.push_back({.attention_norm = std::move(tensors.layers[layer].attention_norm),
                            .attention = std::move(halves.attention),
                            .feed_forward_norm = std::move(tensors.layers[layer].feed_forward_norm),
                            .feed_forward = std::move(halves.feed_forward)});
  }
  return std::make_unique<LayerStack>(std::move(parts));
}

}  // namespace

std::unique_ptr<Transformer> make_transformer(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits) {
  require_family(checkpoint, stage);
  const MakeTransformer* const whole = std::get_if<MakeTransformer>(&stage.make);
  return whole ? (*whole)(checkpoint, limits, stage.options) : make_stack(checkpoint, stage, limits, {});
}

Decoder make_decoder(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits) {
  return {make_transformer(checkpoint, stage, limits), limits};
}

Decoder make_decoder(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits,
                     const MakeFeedForward& make_feed_forward) {
  require_family(checkpoint, stage);
  return {make_stack(checkpoint, stage, limits, make_feed_forward), limits};
}

std::unique_ptr<Attention> make_attention(const Checkpoint& checkpoint, const Stage& stage, index_t layer, const Limits& limits) {
  return layer_maker(checkpoint, stage, limits)(layer).attention;
}

}  // namespace kv
