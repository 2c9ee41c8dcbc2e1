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

/// What a layer adds to row n: row n of `rows`, or a sum over visits k, weights(n,k) * rows(places(n,k),:), ascending.
struct Change {
  const float* rows;
  int visits = 1;                  ///< K
  const float* weights = nullptr;  ///< (N,K), or null: row n itself
  const int* places = nullptr;     ///< (N,K)
};

/// x(n,:) += change, then y(n,:) = rms_norm(x(n,:)).  @param x, y (N,width), which do not overlap
void add_rms_norm(const Norm& norm, float* x, const Change& change, int rows, float* y, cudaStream_t stream);

}  // namespace kv::cuda
