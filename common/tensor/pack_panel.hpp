#pragma once
/// @file
/// The layout of packed weights: panels of 32 outputs, [input][32]. Packing a panel is a transpose.
#include "common/tensor/linear.hpp"

namespace kv {

/// Inputs of a panel: bf16 is filled up with zeros to whole blocks of 32, i8 to whole quads.
index_t stored_panel_inputs(DType type, index_t inputs);

/// Outputs 32 * panel ... of the matrix as [input][32], of bf16 as [pair of inputs][32][2], of i8 as [quad][32][4]; zeros where the matrix ends.
/// @param out stored_panel_inputs() * 32 elements in the matrix's number format, aligned to 16 bytes
void pack_panel(const MatrixView& matrix, index_t panel, std::byte* out);

}  // namespace kv
