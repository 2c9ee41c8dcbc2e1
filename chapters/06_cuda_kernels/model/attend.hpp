#pragma once
/// @file
/// Causal attention of new rows over a cache, for heads of any width. One kernel serves every layout: a group of query
/// heads shares one row of keys and one of values for each token. Group 1: multi-head. All heads in one group, and the
/// values the first R numbers of the keys: absorbed MLA.
///
/// The tokens of a row are split over blocks, for a decode step has too few rows to fill a GPU; what the blocks have seen
/// is put together by their log-sum-exps.
#include "chapters/06_cuda_kernels/model/tokens.hpp"

namespace kv::cuda {

/// @tparam T of what is cached: float or bf16
template <class T>
struct Attend {
  const float* queries;        ///< head h of row n begins at queries + n*query_row + h*key_width
  int query_row;
  StoredRows<T> keys, values;  ///< of group g: from g*key_width on, from g*value_width on
  int heads, groups, key_width, value_width;
  float scale;             ///< of the scores
  Tokens tokens;           ///< row n sees the tokens 0 ... positions[n] of its sequence
  int splits;              ///< blocks that share the tokens of a row
  float* partial;          ///< (N,H,splits,W), used when splits > 1
  float* lse;              ///< (N,H,splits)
  float* output;           ///< (N,H,W)
};

/// How many blocks should share a row's tokens: for sequences of up to `capacity` tokens, on a GPU with so many
/// multiprocessors. Depends on nothing that changes from step to step.
int attend_splits(int rows, int heads, int groups, int capacity, int multiprocessors);

template <class T>
void attend(const Attend<T>& problem, cudaStream_t stream);

}  // namespace kv::cuda
