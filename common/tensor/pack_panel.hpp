#pragma once
/// @file
/// The layout of packed weights: panels of 32 outputs, [input][32]. Packing a panel is a transpose.
#include "common/tensor/linear.hpp"

namespace kv {

/// Outputs 32 * panel ... of the matrix as [input][32], zeros where the matrix ends. Of bf16 in pairs (j, j + 16), which a
/// shift and a mask widen.
/// @param out columns * 32 elements in the matrix's number format, aligned to 16 bytes
void pack_panel(const MatrixView& matrix, index_t panel, std::byte* out);

}  // namespace kv
