#pragma once
/// @file
/// A checkpoint and a stage make a decoder.
#include <functional>

#include "chapters/models/family.hpp"
#include "chapters/models/layer_parts.hpp"
#include "chapters/models/model_sizes.hpp"
#include "chapters/stages.hpp"
#include "common/model/decoder.hpp"

namespace kv {

/// Who makes the feed-forward half of a layer.
using MakeFeedForward = std::function<std::shared_ptr<const FeedForward>(const Checkpoint& checkpoint, index_t layer)>;

/// Builds the decoder of a checkpoint as a stage says.
/// @throws Error when the stage does not run on the checkpoint's family, or a tensor is missing or has another shape
Decoder make_decoder(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits);

/// The same with other feed-forward halves than the checkpoint's own, to watch or change them.
/// @throws Error also when the stage makes the whole model and not layers
Decoder make_decoder(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits,
                     const MakeFeedForward& make_feed_forward);

/// The transformer that such a decoder keeps, without the tokens.
std::unique_ptr<Transformer> make_transformer(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits);

/// One layer's attention, alone.  @throws Error as above
std::unique_ptr<Attention> make_attention(const Checkpoint& checkpoint, const Stage& stage, index_t layer, const Limits& limits);

}  // namespace kv
