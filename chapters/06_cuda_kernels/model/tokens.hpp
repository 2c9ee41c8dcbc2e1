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

/// Storage of fixed capacity, a row of numbers for each token of each sequence.
template <class T>
struct StoredRows {
  T* data;
  std::size_t of_sequence;  ///< numbers from one sequence to the next
  int of_token;             ///< numbers from one token to the next

  __device__ T* row(int sequence, int position) const {
    return data + sequence * of_sequence + std::size_t(position) * of_token;
  }
};
using CacheRows = StoredRows<float>;
using PagedRows = StoredRows<bf16>;  ///< a sequence's pages lie in order, so they are rows in order

}  // namespace kv::cuda
