#pragma once
/// @file
/// RMS norm of rows, with the residual sum in the same pass: x is read once instead of twice.
#include "chapters/06_cuda_kernels/model/linear.hpp"

namespace kv::cuda {

/// A norm's weights.
struct Norm {
  const float* weight;  ///< (width)
  int width;
  float epsilon;
};

/// y(n,:) = rms_norm(x(n,:)). In place is allowed.
void rms_norm(const Norm& norm, const RowsIn& x, int rows, const RowsOut& y, cudaStream_t stream);

/// x(n,:) += delta(n,:), then y(n,:) = rms_norm(x(n,:)).  @param x, delta, y (N,width), which do not overlap
void add_rms_norm(const Norm& norm, float* x, const float* delta, int rows, float* y, cudaStream_t stream);

}  // namespace kv::cuda
