#pragma once
/// @file
/// How much each token looks at each row: what attend() uses and does not keep.
#include "chapters/01_uncached_attention/row_source.hpp"

namespace kv {

/// The softmax weights of attend() with the same arguments, by a plain second pass over the rows.
/// @return (T,H,S), S the most rows that a head holds; 0 where a token sees nothing
Tensor<3> attention_weights(const Tensor<3>& queries, const Tensor<3>& sink_queries, const RowSource& rows,
                            const CausalMask& mask, float scale);
Tensor<3> attention_weights(const Tensor<3>& queries, const RowSource& rows, const CausalMask& mask, float scale);

}  // namespace kv
