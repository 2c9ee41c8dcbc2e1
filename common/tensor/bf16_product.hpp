#pragma once
/// @file
/// A linear layer whose inputs become numbers in bf16: the loops around simd/tiles.hpp.
#include "common/tensor/input_format.hpp"
#include "common/tensor/packed_layer.hpp"

namespace kv {

/// y(n,o) = sum over i of W(o,i) x(n,i). One row runs the sums of five hundred.
/// @param layer with weights in bf16  @param inputs a format of bf16
void multiply_in_bf16(const PackedLayer& layer, InputFormat inputs, index_t row_count, const float* x, index_t x_stride, float* y,
                      index_t y_stride);

}  // namespace kv
