#pragma once
/// @file
/// Which part of a matrix, and which heads, are a rank's.
#include "chapters/10_tensor_parallel/communicator.hpp"
#include "chapters/models/model_tensors.hpp"

namespace kv {

/// Nearly equal parts for p ranks, larger ones first: 6 on 4 ranks are 2, 2, 1 and 1. Borders at multiples of `unit`; where
/// there are fewer units than ranks, the last ranks get nothing.
std::vector<Slice> split(index_t size, index_t ranks, index_t unit = 1);

/// Of a matrix's rows: whole panels of 32 outputs, whole blocks of 128 where blocks have scales.
std::vector<Slice> split_rows(const MatrixView& matrix, index_t ranks);

/// The heads of every rank, and the key/value heads that they look at.
struct HeadSlices {
  std::vector<Slice> queries, groups;
};

/// A group goes to one rank with all its heads. Where ranks are more than groups, several ranks share the heads of a group,
/// and each of them makes and keeps its keys and values.
/// @throws UsageError when a rank would get no head
HeadSlices split_heads(const HeadSizes& sizes, index_t ranks);

LinearView row_slice(const LinearView& map, Slice slice);
/// @param takes_bias on one rank only: what ranks make of their columns is added up
LinearView column_slice(const LinearView& map, Slice slice, bool takes_bias);

/// The tensors of one rank's heads: their rows of the matrices in front, and their columns of the output matrix.
/// @throws UsageError when a rank would get no head
AttentionTensors head_slice(AttentionTensors tensors, index_t ranks, index_t rank);

}  // namespace kv
