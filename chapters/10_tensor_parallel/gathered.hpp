#pragma once
/// @file
/// Matrices cut by outputs: every sum stays whole on one rank, so no bit changes; what ranks have made is gathered.
#include "chapters/10_tensor_parallel/communicator.hpp"
#include "chapters/models/layer_parts.hpp"

namespace kv {

/// One rank's heads with their caches, and its outputs of every matrix.
/// @throws UsageError when the rank would get no head, Error as Checkpoint::pack
LayerHalves gathered_layer(const Checkpoint& checkpoint, const LayerTensors& layer, const Limits& limits, Communicator& line);

}  // namespace kv
