/// @file
/// Device models from the tensors of a checkpoint: each stage's choice of attention and cache.
#include "chapters/06_cuda_kernels/model/attention_layers.hpp"
#include "chapters/06_cuda_kernels/model/device_model_parts.hpp"
#include "chapters/06_cuda_kernels/model/ladder_attention.hpp"

namespace kv::cuda {
namespace {

std::vector<index_t> all_positions(index_t capacity) {
  std::vector<index_t> positions(capacity);
  for (index_t p = 0; p < capacity; ++p) positions[p] = p;
  return positions;
}

std::span<const float> values(const Tensor<2>& x) { return {x.data(), x.size()}; }

}  // namespace

OwnedRope::OwnedRope(const Rope& rope, index_t capacity) : width_(static_cast<int>(2 * rope.frequencies.size())) {
  const RopeTable table = rope.table(all_positions(capacity));
  cos_ = Buffer<float>(values(table.cos));
  sin_ = Buffer<float>(values(table.sin));
}

namespace {

template <class T>
std::shared_ptr<OwnedHeads<T>> owned_heads(const LayerTensors& tensors, const Limits& limits) {
  const auto make = [&](index_t heads, index_t key_width, index_t value_width) {
    return std::make_shared<OwnedHeads<T>>(OwnedCache<T>(limits, heads * key_width), OwnedCache<T>(limits, heads * value_width));
  };
  if (const auto* grouped = std::get_if<GroupedTensors>(&tensors.attention))
    return make(grouped->sizes.key_value_heads, grouped->sizes.key_width, grouped->sizes.value_width);
  const LatentSizes& sizes = std::get<LatentTensors>(tensors.attention).sizes;
  return make(sizes.heads, sizes.key_width(), sizes.value_width);
}

template <class T>
std::unique_ptr<AttentionLayer> naive_attention(const LayerTensors& tensors, float norm_epsilon, const RopeRows& rope,
                                                index_t capacity, std::shared_ptr<OwnedHeads<T>> cache) {
  if (const auto* grouped = std::get_if<GroupedTensors>(&tensors.attention))
    return std::make_unique<GroupedAttentionLayer<T>>(upload(*grouped, norm_epsilon), rope, capacity, std::move(cache));
  return std::make_unique<ExpandedAttentionLayer<T>>(upload_expanded(std::get<LatentTensors>(tensors.attention), rope), capacity,
                                                     std::move(cache));
}

std::unique_ptr<FeedForwardLayer> feed_forward(const LayerTensors& tensors) {
  if (const auto* dense = std::get_if<SwiGluTensors>(&tensors.feed_forward)) return std::make_unique<DenseLayer>(upload(*dense));
  return std::make_unique<MixtureLayer>(upload(std::get<MixtureTensors>(tensors.feed_forward)));
}

/// @param make_attention of a layer's tensors and the table of angles
template <class MakeAttention>
DeviceModel::Parts upload(const ModelTensors& tensors, const Limits& limits, const MakeAttention& make_attention) {
  OwnedRope rope(tensors.rope, limits.capacity);
  std::vector<DeviceLayer> layers;
  for (const LayerTensors& layer : tensors.layers)
    layers.push_back({.attention_norm = {layer.attention_norm, tensors.norm_epsilon},
                      .attention = make_attention(layer, RopeRows(rope)),
                      .feed_forward_norm = {layer.feed_forward_norm, tensors.norm_epsilon},
                      .feed_forward = feed_forward(layer)});
  return {.rope = std::move(rope),
          .embedding = Matrix{tensors.embedding},
          .layers = std::move(layers),
          .final_norm = {tensors.final_norm, tensors.norm_epsilon},
          .head = Matrix{tensors.head},
          .limits = limits};
}

template <class T>
std::unique_ptr<DeviceModel> make_model_of_heads(const ModelTensors& tensors, const Limits& limits) {
  return std::make_unique<DeviceModel>(upload(tensors, limits, [&](const LayerTensors& layer, const RopeRows& rope) {
    return naive_attention(layer, tensors.norm_epsilon, rope, limits.capacity, owned_heads<T>(layer, limits));
  }));
}

}  // namespace

std::unique_ptr<DeviceModel> make_naive_model(const ModelTensors& tensors, const Limits& limits) {
  return make_model_of_heads<float>(tensors, limits);
}
std::unique_ptr<DeviceModel> make_bf16_model(const ModelTensors& tensors, const Limits& limits) {
  return make_model_of_heads<bf16>(tensors, limits);
}
// [uncached]
std::unique_ptr<DeviceModel> make_uncached_model(const ModelTensors& tensors,
                                                 const Limits& limits) {
  const auto shared = owned_heads<float>(tensors.layers.at(0), limits);  // by layer after layer
  const auto attention = [&](const LayerTensors& layer, const RopeRows& rope) {
    return naive_attention(layer, tensors.norm_epsilon, rope, limits.capacity, shared);
  };
  DeviceModel::Parts parts = upload(tensors, limits, attention);
  parts.remembers = false;
  return std::make_unique<DeviceModel>(std::move(parts));
}
// [uncached]
std::unique_ptr<DeviceModel> make_absorbed_model(const ModelTensors& tensors, const Limits& limits) {
  return std::make_unique<DeviceModel>(upload(tensors, limits, [&](const LayerTensors& layer, const RopeRows& rope) {
    return std::make_unique<AbsorbedAttentionLayer>(upload_absorbed(std::get<LatentTensors>(layer.attention), rope), limits);
  }));
}
std::unique_ptr<DeviceModel> make_ladder_model(const ModelTensors& tensors, const Limits& limits) {
  const index_t heads = std::get<LatentTensors>(tensors.layers.at(0).attention).sizes.heads;
  const auto step = std::make_shared<StepPages>(heads, limits, best_rung());
  DeviceModel::Parts parts = upload(tensors, limits, [&](const LayerTensors& layer, const RopeRows& rope) {
    return std::make_unique<LadderAttentionLayer>(upload_absorbed(std::get<LatentTensors>(layer.attention), rope), step);
  });
  parts.before = step;
  return std::make_unique<DeviceModel>(std::move(parts));
}

}  // namespace kv::cuda
