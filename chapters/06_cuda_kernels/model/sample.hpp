#pragma once
/// @file
/// The next token, chosen where the logits are: four bytes leave the device instead of a row of logits.
#include "common/cuda/device.hpp"

namespace kv::cuda {

/// The most likely token of each row; of equals the one with the smallest id.
/// @param logits (N,V)  @param tokens (N)
void most_likely(const float* logits, int rows, int vocabulary, int* tokens, cudaStream_t stream);

}  // namespace kv::cuda
