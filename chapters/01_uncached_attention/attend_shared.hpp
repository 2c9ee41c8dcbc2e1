#pragma once
/// @file
/// Attention of several queries over rows that all of them share, in blocks of rows.
#include "chapters/01_uncached_attention/row_source.hpp"

namespace kv {

/// Queries that look at the rows of the same head, ascending by token, and where their results go.
struct SharedQueries {
  RowsView queries;       // (Q,D), scaled
  RowsView sink_queries;  // (Q,D), the same queries as they meet rows that are seen as sinks
  std::span<const Visible> visible;  // (Q)
  index_t head;
  float* out;  // (Q,W) without gaps, written
};

/// Softmax attention of every query over the rows that it sees:
/// \f[ o_i = \sum_{s \in \mathrm{visible}_i} \operatorname{softmax}_s(q_i \cdot k_s)\, v_s \f]
/// Rows are taken in blocks that begin at multiples of 128, counted from row 0. So what is held of the scores is bounded,
/// a block is still in a cache when its values are summed, and no bit depends on how many queries come together.
/// Sinks come first, in blocks of their own. Heads take turns at each block, as their rows lie side by side.
/// @see Milakov and Gimelshein 2018 for the running softmax, arXiv:1805.02867
void attend_shared(std::span<const SharedQueries> heads, const RowSource& rows);

}  // namespace kv
