#pragma once
/// @file
/// What the kernels know of the rows they work on. Everything is in device memory, so that a captured graph serves every
/// step: it is recorded once for a number of rows and reads what they are when it runs.
#include "common/cuda/device.hpp"

namespace kv::cuda {

/// The new rows of a batch: row n is the token `ids[n]` of a sequence, at a position.
struct Tokens {
  const int *ids, *sequences, *positions;  ///< (N)
  int count;                               ///< N
};

/// Storage of fixed capacity, a row of floats for each token of each sequence.
struct CacheRows {
  float* data;
  std::size_t of_sequence;  ///< floats from one sequence to the next
  int of_token;             ///< floats from one token to the next

  __device__ float* row(int sequence, int position) const {
    return data + sequence * of_sequence + std::size_t(position) * of_token;
  }
};

}  // namespace kv::cuda
