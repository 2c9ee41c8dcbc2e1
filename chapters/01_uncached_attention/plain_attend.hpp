#pragma once
/// @file
/// Attention as its formula says it: where the book begins.
#include "common/tensor/tensor.hpp"

namespace kv {

/// The formula of attend(), one token and one head at a time. It reads every key and value once for each query, and holds
/// a whole row of scores: right, and slow. Same arguments, same result but for rounding.
Tensor<3> plain_attend(const Tensor<3>& queries, const Tensor<3>& keys, const Tensor<3>& values, index_t S);

}  // namespace kv
