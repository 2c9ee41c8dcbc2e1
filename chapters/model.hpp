#pragma once
/// @file
/// A checkpoint and a stage make a decoder.
#include <functional>

#include "chapters/architectures.hpp"
#include "chapters/stages.hpp"
#include "common/decoder.hpp"

namespace kv {

/// Who makes the feed-forward half of a layer.
using MakeFeedForward = std::function<std::shared_ptr<const FeedForward>(const Checkpoint& checkpoint, index_t layer)>;

/// Builds the decoder of a checkpoint with one stage's attention in every layer.
/// @param make_feed_forward another than the checkpoint's own, to watch or change it
/// @throws Error when the stage does not run on the checkpoint's family, or a tensor is missing or has another shape
Decoder make_decoder(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits,
                     const MakeFeedForward& make_feed_forward = feed_forward);

}  // namespace kv
