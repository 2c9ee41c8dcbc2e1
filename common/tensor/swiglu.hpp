#pragma once
/// @file
#include "common/tensor/tensor.hpp"

namespace kv {

/// SwiGLU's elementwise half: \f$ \mathrm{silu}(g) \cdot u,\ \mathrm{silu}(g) = g / (1 + e^{-g}) \f$.
/// @param gate (N,F), whose memory the result takes over when it is moved  @param up (N,F)  @return (N,F)  @throws ShapeError
/// @see Shazeer 2020, arXiv:2002.05202
Tensor<2> swiglu(Tensor<2> gate, const Tensor<2>& up);

}  // namespace kv
