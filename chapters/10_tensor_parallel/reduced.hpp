#pragma once
/// @file
/// Matrices cut along their sums: what ranks have made is added up. One all-reduce for each half of a layer.
/// @see Shoeybi et al. 2019, Megatron-LM, section 3, arXiv:1909.08053
#include "chapters/10_tensor_parallel/communicator.hpp"
#include "chapters/models/layer_parts.hpp"

namespace kv {

/// One rank's heads and a slice of the inner width, each with its columns of the matrix behind it: rows of the matrices that
/// come first, the same columns of the one that comes last. Latents are kept as they are: absorbed, as engines do, since no
/// bit is to be saved here.
/// @throws UsageError when the rank would get no head, Error as Checkpoint::pack
LayerHalves reduced_layer(const Checkpoint& checkpoint, const LayerTensors& layer, const Limits& limits, Communicator& line);

}  // namespace kv
