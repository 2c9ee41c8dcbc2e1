#pragma once
/// @file
#include "common/cuda/device.hpp"

namespace kv::cuda {

/// y(n,m) *= sigmoid(g(n)).  @param gate (N)  @param y (N,M)
void gate_rows(const float* gate, int rows, int width, float* y, cudaStream_t stream);

}  // namespace kv::cuda
