#pragma once
/// @file
/// A linear layer whose inputs become integers: the loops around simd/integers.hpp.
#include "common/tensor/input_format.hpp"
#include "common/tensor/packed_layer.hpp"

namespace kv {

/// y(n,o) = sum over i of W(o,i) x(n,i), as simd/integers.hpp defines it.
/// @param layer with weights in i8; its finish() multiplies with their scales  @param inputs int8 or int8x2
void multiply_in_integers(const PackedLayer& layer, InputFormat inputs, index_t row_count, const float* x, index_t x_stride, float* y,
                          index_t y_stride);

}  // namespace kv
