#pragma once
/// @file
/// Whole sequences and whole experts on every rank: rows of tokens travel to the experts that they have chosen, and back.
#include "chapters/10_tensor_parallel/communicator.hpp"
#include "chapters/models/layer_parts.hpp"

namespace kv {

/// Attention is whole, for this rank's sequences; latents are expanded at every step, the form with chapter 1's bits. Of a
/// mixture the rank has some experts, everything else is whole on each.
/// @param limits of this rank's sequences
LayerHalves exchanged_layer(const Checkpoint& checkpoint, const LayerTensors& layer, const Limits& limits, Communicator& line);

}  // namespace kv
