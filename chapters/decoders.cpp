#include "chapters/decoders.hpp"

#include <algorithm>

#include "common/files/error.hpp"

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

std::unique_ptr<Transformer> stack_of(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits,
                                      const MakeFeedForward& make_feed_forward) {
  const ModelTensors tensors = model_tensors(checkpoint);
  const MakeLayer make_layer = layer_maker(checkpoint, stage, limits);
  return std::make_unique<LayerStack>(make_stack(checkpoint, tensors, [&](index_t layer) {
    LayerHalves halves = make_layer(layer);
    if (make_feed_forward) halves.feed_forward = make_feed_forward(checkpoint, layer);
    return halves;
  }));
}

}  // namespace

std::unique_ptr<Transformer> make_transformer(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits) {
  require_family(checkpoint, stage);
  const MakeTransformer* const whole = std::get_if<MakeTransformer>(&stage.make);
  return whole ? (*whole)(checkpoint, limits, stage.options) : stack_of(checkpoint, stage, limits, {});
}

Decoder make_decoder(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits) {
  return {make_transformer(checkpoint, stage, limits), limits};
}

Decoder make_decoder(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits,
                     const MakeFeedForward& make_feed_forward) {
  require_family(checkpoint, stage);
  return {stack_of(checkpoint, stage, limits, make_feed_forward), limits};
}

std::unique_ptr<Attention> make_attention(const Checkpoint& checkpoint, const Stage& stage, index_t layer, const Limits& limits) {
  return layer_maker(checkpoint, stage, limits)(layer).attention;
}

}  // namespace kv
