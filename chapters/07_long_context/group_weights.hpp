#pragma once
/// @file
/// The attention weights that policies count with.
#include "chapters/07_long_context/forgetting_policy.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// How much the query heads that share head g look at each row of it, added in ascending order of heads.
/// @return (G,S), S the most rows that a head holds
Tensor<2> added_weights(const Attended& token);
/// The largest of them.
Tensor<2> largest_weights(const Attended& token);

}  // namespace kv
