#pragma once
/// @file
/// What the products of a linear layer share: what a layer is, and how threads share it out.
#include <algorithm>
#include <functional>

#include "common/tensor/parallel.hpp"
#include "common/tensor/simd/kernels.hpp"

namespace kv {

/// Packed weights: panel p at p * 32 * inputs numbers, with those inputs that fill up the last block.
struct PackedLayer {
  const std::byte* panels;
  index_t inputs, outputs;
  /// What is left to do to outputs first ... last-1 of some rows: scales, a bias.
  std::function<void(index_t first, index_t last, index_t row_count, float* y, index_t y_stride)> finish;
};

/// Threads split panels, and blocks of rows as well where panels are few: body(panel, first block, last block).
/// @param panel_ns of a panel for all rows: from about 10 us on another thread is worth it
template <class Body>
void for_panels(index_t outputs, index_t row_blocks, index_t panel_ns, const Body& body) {
  const index_t panels = (outputs + simd::panel_width - 1) / simd::panel_width;
  const index_t groups = std::clamp<index_t>((4 * threads() + panels - 1) / panels, 1, row_blocks);
  const auto multiply_items = [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; ++i) {
      const index_t group = i / panels;
      body(i % panels, row_blocks * group / groups, row_blocks * (group + 1) / groups);
    }
  };
  parallel_for(groups * panels, 10000 / (panel_ns / groups + 1) + 1, multiply_items);
}

}  // namespace kv
