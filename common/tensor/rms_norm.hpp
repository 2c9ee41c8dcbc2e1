#pragma once
/// @file
#include "common/tensor/tensor.hpp"

namespace kv {

/// Root-mean-square normalisation of every row: \f$ y = x / \sqrt{\tfrac1M \sum_i x_i^2 + \epsilon} \cdot w \f$.
/// The sum has dot_rows' fixed order.
/// @param x (N,M)  @param weight (M)  @return (N,M)  @throws ShapeError
/// @see Zhang and Sennrich 2019, arXiv:1910.07467
Tensor<2> rms_norm(const Tensor<2>& x, const Tensor<1>& weight, float epsilon);

/// The same in place on one row of any width.
void rms_norm(std::span<float> x, std::span<const float> weight, float epsilon);

}  // namespace kv
