#pragma once
/// @file
/// Attention of several queries over rows that all of them share, in blocks of rows.
#include "common/tensor/tensor.hpp"

namespace kv {

/// Rows of keys and values that several queries look at.
struct SharedRows {
  RowsView keys;    // (S,D)
  RowsView values;  // (S,W)
};

/// Softmax attention of query i over the first visible[i] rows:
/// \f[ o_i = \sum_{s < \mathrm{visible}_i} \operatorname{softmax}_s(q_i \cdot k_s)\, v_s \f]
/// Rows are taken in blocks that begin at multiples of 128, counted from row 0. So what is held of the scores is bounded,
/// a block is still in a cache when its values are summed, and no bit depends on how many queries come together.
/// @param queries (Q,D), scaled  @param visible (Q) ascending, each at least 1, none larger than the number of rows
/// @param out (Q,W) without gaps, written
/// @see Milakov and Gimelshein 2018 for the running softmax, arXiv:1805.02867
void attend_shared(const RowsView& queries, std::span<const index_t> visible, const SharedRows& rows, float* out);

}  // namespace kv
