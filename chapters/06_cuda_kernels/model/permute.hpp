#pragma once
/// @file
/// Rows sorted by expert, and back. Every visit of a token to one of its K experts becomes a row; the rows of an expert
/// lie together, its tokens ascending. Nobody adds with atomics to a sum: the order of every sum is fixed.
#include "chapters/06_cuda_kernels/model/route.hpp"

namespace kv::cuda {

/// The routing turned around.
struct Permutation {
  int* offsets;       ///< (E+1), the first row of every expert
  int* active;        ///< (E), experts that have rows, ascending, then -1
  int* token_of_row;  ///< (N*K)
  int* row_of_visit;  ///< (N,K)
};

/// Counts, sums up the counts, scatters.
void sort_by_expert(const Choices& choices, int rows, int chosen, int experts, const Permutation& permutation, cudaStream_t stream);

/// y(n,:) = sum over k of weights(n,k) * outputs(row_of_visit(n,k),:), experts ascending.
/// @param outputs (N*K,M)  @param y (N,M)
void gather_visits(const Choices& choices, const Permutation& permutation, const float* outputs, int rows, int chosen, int width,
                   float* y, cudaStream_t stream);

}  // namespace kv::cuda
