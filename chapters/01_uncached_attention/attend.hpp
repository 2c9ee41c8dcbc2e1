#pragma once
/// @file
/// Attention itself: the one function that every exact stage of the book calls.
#include "chapters/01_uncached_attention/row_source.hpp"

namespace kv {

/// Causal attention of the last T of S tokens over all S, head by head.
/// \f[ o_{t,h} = \sum_{s \le S-T+t} \operatorname{softmax}_s\!\Big(\tfrac{q_{t,h}\cdot k_{s,g(h)}}{\sqrt D}\Big)\, v_{s,g(h)} \f]
/// with \f$ g(h) = \lfloor hG/H \rfloor \f$: H/G neighbouring query heads share a key/value head.
/// Rows S ... C-1 are unused capacity, never read. T = S: the textbook; T = 1: a decode step.
/// @param queries (T,H,D)  @param keys (C,G,D)  @param values (C,G,W)  @param S stored tokens
/// @param window how many tokens each one sees, itself counted  @return (T,H,W)
/// @throws ShapeError; std::out_of_range unless C >= S >= T
/// @see Vaswani et al. 2017, eq. 1, arXiv:1706.03762; Ainslie et al. 2023 for groups, arXiv:2305.13245
Tensor<3> attend(const Tensor<3>& queries, const Tensor<3>& keys, const Tensor<3>& values, index_t S,
                 index_t window = no_window);

/// The same wherever the rows lie, and with a scale that is given. Threads split tokens and heads.
/// A head that holds fewer rows than the mask shows, shows them all.
Tensor<3> attend(const Tensor<3>& queries, const RowSource& rows, const CausalMask& mask, float scale);

/// The same, where rows that are seen as sinks meet other queries than the rest.  @param sink_queries (T,H,D)
Tensor<3> attend(const Tensor<3>& queries, const Tensor<3>& sink_queries, const RowSource& rows, const CausalMask& mask,
                 float scale);

}  // namespace kv
