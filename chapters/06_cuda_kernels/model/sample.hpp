#pragma once
/// @file
/// The next token, drawn where the logits are: four bytes leave the device instead of a row of logits.
#include <cstdint>

#include "common/cuda/device.hpp"

namespace kv::cuda {

/// The most likely token of each row; of equals the one with the smallest id.
/// @param logits (N,V)  @param tokens (N)
void most_likely(const float* logits, int rows, int vocabulary, int* tokens, cudaStream_t stream);

/// Draws from softmax(logits / temperature) by the Gumbel trick: the largest of \f$ l_v / t + g_v \f$, where g are
/// independent draws of \f$ -\ln(-\ln u) \f$. No sum and no sorting: one pass over the row. The draws come from the seed,
/// the row's number and `draws[n]`, how many tokens the row has drawn before: other numbers than the CPU's, the same
/// distribution, and the same tokens again for the same seed.
/// @param temperature above 0  @param draws (N), counted up
void sample(const float* logits, int rows, int vocabulary, float temperature, std::uint64_t seed, int* draws, int* tokens,
            cudaStream_t stream);

}  // namespace kv::cuda
