#pragma once
/// @file
#include "common/cuda/device.hpp"

namespace kv::cuda {

/// y(n,f) = silu(g(n,f)) * u(n,f), where a row of `gate_up` is g, then u.  @param gate_up (N,2F)  @param y (N,F)
void swiglu(const float* gate_up, int rows, int width, float* y, cudaStream_t stream);

/// y(n,m) *= sigmoid(g(n)).  @param gate (N)  @param y (N,M)
void gate_rows(const float* gate, int rows, int width, float* y, cudaStream_t stream);

}  // namespace kv::cuda
