#include "chapters/models/layer_parts.hpp"

#include "chapters/05_mixture_of_experts/gated_expert.hpp"
#include "chapters/models/model_sizes.hpp"
#include "chapters/models/model_tensors.hpp"
#include "chapters/models/rope_config.hpp"

namespace kv {
namespace {

std::shared_ptr<const Linear> packed_or_none(const Checkpoint& checkpoint, const LinearView& map) {
  return map.weight.data ? checkpoint.pack(map) : nullptr;
}

std::shared_ptr<const HeadProjection> grouped_projection(const Checkpoint& checkpoint, const GroupedTensors& tensors) {
  GroupedProjection::Weights weights{.query = checkpoint.pack(tensors.query),
                                     .key = checkpoint.pack(tensors.key),
                                     .value = checkpoint.pack(tensors.value),
                                     .output = packed_or_none(checkpoint, tensors.output),
                                     .query_norm = tensors.query_norm,
                                     .key_norm = tensors.key_norm,
                                     .norm_epsilon = model_sizes(checkpoint.config()).norm_epsilon};
  return std::make_shared<GroupedProjection>(std::move(weights), tensors.sizes,
                                             rope_config(checkpoint.config(), tensors.sizes.key_width));
}

std::shared_ptr<const FeedForward> dense(const Checkpoint& checkpoint, const SwiGluTensors& tensors) {
  return std::make_shared<DenseFeedForward>(checkpoint.pack(tensors.gate), checkpoint.pack(tensors.up),
                                            checkpoint.pack(tensors.down));
}

std::shared_ptr<const FeedForward> shared_expert(const Checkpoint& checkpoint, const MixtureTensors& tensors) {
  if (!tensors.shared) return nullptr;
  const auto expert = dense(checkpoint, *tensors.shared);
  if (!tensors.shared_gate) return expert;
  return std::make_shared<GatedExpert>(checkpoint.pack(*tensors.shared_gate), expert);
}

}  // namespace

std::shared_ptr<const HeadProjection> head_projection(const Checkpoint& checkpoint, index_t layer) {
  return head_projection(checkpoint, attention_tensors(checkpoint, layer));
}

std::shared_ptr<const HeadProjection> head_projection(const Checkpoint& checkpoint, const AttentionTensors& tensors) {
  if (const auto* grouped = std::get_if<GroupedTensors>(&tensors)) return grouped_projection(checkpoint, *grouped);
  return latent_projection(checkpoint, std::get<LatentTensors>(tensors));
}

std::shared_ptr<const LatentProjection> latent_projection(const Checkpoint& checkpoint, const LatentTensors& tensors) {
  LatentProjection::Weights weights{.query_down = tensors.query_down ? checkpoint.pack(*tensors.query_down) : nullptr,
                                    .query_norm = tensors.query_norm,
                                    .query_up = checkpoint.pack(tensors.query_up),
                                    .latent_down = checkpoint.pack(tensors.latent_down),
                                    .latent_norm = tensors.latent_norm,
                                    .latent_up = checkpoint.pack(tensors.latent_up),
                                    .output = packed_or_none(checkpoint, tensors.output)};
  return std::make_shared<LatentProjection>(std::move(weights), tensors.sizes,
                                            rope_config(checkpoint.config(), tensors.sizes.rope_width), tensors.softmax_factor);
}

std::shared_ptr<const LatentProjection> latent_projection(const Checkpoint& checkpoint, index_t layer) {
  return latent_projection(checkpoint, std::get<LatentTensors>(attention_tensors(checkpoint, layer)));
}

Absorption absorption(const Checkpoint& checkpoint, index_t layer) {
  const LatentTensors tensors = std::get<LatentTensors>(attention_tensors(checkpoint, layer));
  return Absorption(tensors.latent_up, tensors.sizes);
}

std::shared_ptr<const FeedForward> feed_forward(const Checkpoint& checkpoint, index_t layer) {
  return feed_forward_from(checkpoint, feed_forward_tensors(checkpoint, layer));
}

std::shared_ptr<const FeedForward> feed_forward_from(const Checkpoint& checkpoint, const FeedForwardTensors& tensors) {
  if (const auto* mixture = std::get_if<MixtureTensors>(&tensors)) return std::make_shared<Mixture>(mixture_parts(checkpoint, *mixture));
  return dense(checkpoint, std::get<SwiGluTensors>(tensors));
}

// [parts]
MixtureParts mixture_parts(const Checkpoint& checkpoint, const MixtureTensors& tensors) {
  const auto load = [checkpoint, experts = tensors.experts](index_t e) { return dense(checkpoint, experts[e]); };
  return {.gate = checkpoint.pack(tensors.gate),
          .router = make_router(tensors.rule),
          .experts = std::make_shared<ExpertPool>(tensors.experts.size(), load),
          .shared = shared_expert(checkpoint, tensors)};
}
// [parts]

MixtureParts mixture_parts(const Checkpoint& checkpoint, index_t layer) {
  return mixture_parts(checkpoint, std::get<MixtureTensors>(feed_forward_tensors(checkpoint, layer)));
}

LayerStack make_stack(const Checkpoint& checkpoint, const ModelTensors& tensors, const MakeLayer& make_layer) {
  LayerStackParts parts{.embedding = tensors.embedding,
                        .embedding_owner = std::make_shared<Checkpoint>(checkpoint),
                        .layers = {},
                        .final_norm = tensors.final_norm,
                        .head = checkpoint.pack(tensors.head),
                        .norm_epsilon = tensors.norm_epsilon};
  for (index_t layer = 0; layer < tensors.layers.size(); ++layer) {
    const LayerTensors& own = tensors.layers[layer];
    LayerHalves halves = make_layer(layer);
    if (!halves.feed_forward) halves.feed_forward = feed_forward_from(checkpoint, own.feed_forward);
    parts.layers.push_back({own.attention_norm, std::move(halves.attention), own.feed_forward_norm, std::move(halves.feed_forward)});
  }
  return LayerStack(std::move(parts));
}

}  // namespace kv
