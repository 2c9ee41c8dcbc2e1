#pragma once
/// @file
/// A linear layer in tiles: the loops around simd/tiles.hpp.
#include <functional>

#include "common/tensor/tensor.hpp"

namespace kv {

/// Packed weights in bf16: panel p at p * 32 * inputs numbers, with those inputs that fill up the last block.
struct TiledLayer {
  const std::byte* panels;
  index_t inputs, outputs;
  /// What is left to do to outputs first ... last-1 of some rows: a bias.
  std::function<void(index_t first, index_t last, index_t row_count, float* y, index_t y_stride)> finish;
};

/// y(n,o) = sum over i of W(o,i) x(n,i), every x in `parts` numbers (1 or 3). One row runs the sums of five hundred.
void multiply_in_tiles(const TiledLayer& layer, index_t parts, index_t row_count, const float* x, index_t x_stride, float* y,
                       index_t y_stride);

}  // namespace kv
