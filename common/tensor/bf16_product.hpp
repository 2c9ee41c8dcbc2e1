#pragma once
/// @file
/// A linear layer whose inputs become numbers in bf16: the loops around simd/tiles.hpp.
#include <functional>

#include "common/tensor/input_format.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// Packed weights in bf16: panel p at p * 32 * inputs numbers, with those inputs that fill up the last block.
struct Bf16Layer {
  const std::byte* panels;
  index_t inputs, outputs;
  /// What is left to do to outputs first ... last-1 of some rows: a bias.
  std::function<void(index_t first, index_t last, index_t row_count, float* y, index_t y_stride)> finish;
};

/// y(n,o) = sum over i of W(o,i) x(n,i). One row runs the sums of five hundred.
/// @param inputs any format but f32
void multiply_in_bf16(const Bf16Layer& layer, InputFormat inputs, index_t row_count, const float* x, index_t x_stride, float* y,
                      index_t y_stride);

}  // namespace kv
