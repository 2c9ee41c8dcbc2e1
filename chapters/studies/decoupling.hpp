#pragma once
/// @file
/// What becomes of scores when keys made from latents are turned in whole, as if the RoPE were not decoupled.
#include <vector>

#include "common/tensor/tensor.hpp"

namespace kv {

/// Largest error of the scores of one query with 64 keys, relative to the largest score. The query stands `distance` tokens behind
/// the keys; query, latents and W_UK are random.
struct DecouplingErrors {
  double past_rotation;  ///< the query is absorbed as if nothing were turned
  double at_distance_8;  ///< it is absorbed with the rotation of distance 8
  double decoupled;      ///< nothing is turned, and the query is absorbed
};
DecouplingErrors decoupling_errors(index_t distance);

/// Normally distributed, the same for a seed on every machine of one standard library.
std::vector<float> normal_floats(index_t count, double deviation, unsigned seed);

}  // namespace kv
