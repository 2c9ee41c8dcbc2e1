#pragma once
/// @file
/// The parts of a layer on the CPU, packed from a checkpoint's tensors. Packed weights are shared by all that ask for them.
/// All throw Error as model_tensors() does, and for weights that are no numbers.
#include <functional>
#include <memory>

#include "chapters/04_latent_cache/absorption.hpp"
#include "chapters/04_latent_cache/latent_projection.hpp"
#include "chapters/05_mixture_of_experts/mixture.hpp"
#include "chapters/models/model_tensors.hpp"
#include "common/checkpoint/checkpoint.hpp"
#include "common/model/layer_stack.hpp"

namespace kv {

/// Who makes the heads of a layer.
std::shared_ptr<const HeadProjection> head_projection(const Checkpoint& checkpoint, index_t layer);
/// Of some of a layer's heads: slices of its tensors, with the sizes that are left. An output matrix without data is none.
std::shared_ptr<const HeadProjection> head_projection(const Checkpoint& checkpoint, const AttentionTensors& tensors);

/// The same for the MLA family, with its latents, and the matrices that let heads work on them.
std::shared_ptr<const LatentProjection> latent_projection(const Checkpoint& checkpoint, index_t layer);
std::shared_ptr<const LatentProjection> latent_projection(const Checkpoint& checkpoint, const LatentTensors& tensors);
Absorption absorption(const Checkpoint& checkpoint, index_t layer);

/// The feed-forward half of a layer: dense, or a mixture of experts.
std::shared_ptr<const FeedForward> feed_forward(const Checkpoint& checkpoint, index_t layer);
std::shared_ptr<const FeedForward> feed_forward_from(const Checkpoint& checkpoint, const FeedForwardTensors& tensors);

/// The parts of a layer that is a mixture. Shapes of all experts are checked here, their weights read when an expert is first
/// chosen.
MixtureParts mixture_parts(const Checkpoint& checkpoint, index_t layer);
MixtureParts mixture_parts(const Checkpoint& checkpoint, const MixtureTensors& tensors);

/// The two halves of a layer. Without a feed-forward half: the checkpoint's own.
struct LayerHalves {
  std::unique_ptr<Attention> attention;
  std::shared_ptr<const FeedForward> feed_forward = nullptr;
};
/// Makes one layer after the other; what layers share (a table of pages, a communicator) is made once and captured.
using MakeLayer = std::function<LayerHalves(index_t layer)>;

/// The layers, and what is around them: embedding, norms, output matrix.
LayerStack make_stack(const Checkpoint& checkpoint, const ModelTensors& tensors, const MakeLayer& make_layer);

}  // namespace kv
