#pragma once
/// @file
/// Attention that never sees a key or a value: every head looks at the same cached rows.
#include "common/tensor/tensor.hpp"

namespace kv {

/// Causal attention of the last T of S tokens over the latents of all S.
/// \f[ m_{t,h} = \sum_{s \le S-T+t} \operatorname{softmax}_s\big(\sigma\,(\tilde q_{t,h} \cdot c_s + q^R_{t,h} \cdot k^R_s)\big)\, c_s \f]
/// The two products are one, over the R+P numbers of a row. It is multi-query attention with one key/value head, whose
/// values are the first R numbers of its keys: each row is read once for all heads.
/// Rows S ... C-1 are unused capacity, never read.
/// @param queries (T,H,R+P), absorbed, with their rotated parts  @param latents (C,R+P)  @param S stored tokens
/// @param rank R  @param scale \f$ \sigma = 1/\sqrt D \f$ of the heads that were absorbed, not of the R+P numbers
/// @return (T,H,R)
/// @throws ShapeError; std::out_of_range unless C >= S >= T
/// @see DeepSeek-AI 2024, appendix C, arXiv:2405.04434
Tensor<3> attend_latents(const Tensor<3>& queries, const Tensor<2>& latents, index_t S, index_t rank, float scale);

}  // namespace kv
