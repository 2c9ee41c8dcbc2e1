#include "chapters/06_cuda_kernels/model/norm.hpp"

#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 256;

/// @return what every number of a row is multiplied by; the whole block gets it
__device__ float factor(const Norm& norm, float squares) {
  return 1.0f / sqrtf(block_sum(squares) / norm.width + norm.epsilon);
}

// [norm]
__global__ void __launch_bounds__(threads) norm_kernel(const Norm norm, const RowsIn x, const RowsOut y) {
  const float* from = x.data + std::size_t(blockIdx.x) * x.stride;
  float* to = y.data + std::size_t(blockIdx.x) * y.stride;
  float squares = 0.0f;
  for (int i = threadIdx.x; i < norm.width; i += threads) squares += from[i] * from[i];
  const float scale = factor(norm, squares);
  for (int i = threadIdx.x; i < norm.width; i += threads) to[i] = from[i] * scale * norm.weight[i];
}
// [norm]

// [add_norm]
/// A decode step has few rows, so this kernel's time is that of its reads one after the other: several at a time.
__global__ void __launch_bounds__(threads)
    add_norm_kernel(const Norm norm, float* __restrict__ x, const float* __restrict__ delta, float* __restrict__ y) {
  const std::size_t row = std::size_t(blockIdx.x) * norm.width;
  float squares = 0.0f;
#pragma unroll 8
  for (int i = threadIdx.x; i < norm.width; i += threads) {
    const float sum = x[row + i] + delta[row + i];
    x[row + i] = sum;  // each thread reads its own numbers again, below
    squares += sum * sum;
  }
  const float scale = factor(norm, squares);
#pragma unroll 8
  for (int i = threadIdx.x; i < norm.width; i += threads) y[row + i] = x[row + i] * scale * norm.weight[i];
}
// [add_norm]

}  // namespace

void rms_norm(const Norm& norm, const RowsIn& x, int rows, const RowsOut& y, cudaStream_t stream) {
  if (rows == 0) return;
  launch({rows, threads, 0, stream}, norm_kernel, norm, x, y);
}

void add_rms_norm(const Norm& norm, float* x, const float* delta, int rows, float* y, cudaStream_t stream) {
  if (rows == 0) return;
  launch({rows, threads, 0, stream}, add_norm_kernel, norm, x, delta, y);
}

}  // namespace kv::cuda
