#include "chapters/06_cuda_kernels/model/norm.hpp"

#include <algorithm>

#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {
namespace {

/// Two numbers for each: a decode step has few rows, so a row must come in few turns.
Launch shape(int rows, int width, cudaStream_t stream) {
  const int threads = std::clamp((width / 2 + warp_threads - 1) / warp_threads * warp_threads, warp_threads, 1024);
  return {.grid = rows, .block = threads, .stream = stream, .early = true};
}

/// @return what every number of a row is multiplied by; the whole block gets it
__device__ float factor(const Norm& norm, float squares) {
  return 1.0f / sqrtf(block_sum(squares) / norm.width + norm.epsilon);
}

// [norm]
__global__ void __launch_bounds__(1024) norm_kernel(const Norm norm, const RowsIn x, const RowsOut y) {
  let_next_grid_begin();
  wait_for_last_grid();
  const float* from = x.data + std::size_t(blockIdx.x) * x.stride;
  float* to = y.data + std::size_t(blockIdx.x) * y.stride;
  float squares = 0.0f;
  for (int i = threadIdx.x; i < norm.width; i += blockDim.x) squares += from[i] * from[i];
  const float scale = factor(norm, squares);
  for (int i = threadIdx.x; i < norm.width; i += blockDim.x) to[i] = from[i] * scale * norm.weight[i];
}
// [norm]

// [add_norm]
/// Number i of what is added to row n. What is read does not depend on the sum: eight at a time.
__device__ float added(const Change& change, std::size_t n, int width, int i) {
  if (!change.places) return change.rows[n * width + i];
  float sum = 0.0f;
#pragma unroll 8
  for (int k = 0; k < change.visits; ++k) {
    const std::size_t visit = n * change.visits + k;
    sum += change.weights[visit] * change.rows[std::size_t(change.places[visit]) * width + i];
  }
  return sum;
}

__global__ void __launch_bounds__(1024) add_norm_kernel(const Norm norm, float* x, const Change change, float* y) {
  let_next_grid_begin();
  wait_for_last_grid();
  const std::size_t row = std::size_t(blockIdx.x) * norm.width;
  float squares = 0.0f;
#pragma unroll 2
  for (int i = threadIdx.x; i < norm.width; i += blockDim.x) {
    const float sum = x[row + i] + added(change, blockIdx.x, norm.width, i);
    x[row + i] = sum;  // each thread reads its own numbers again, below
    squares += sum * sum;
  }
  const float scale = factor(norm, squares);
#pragma unroll 2
  for (int i = threadIdx.x; i < norm.width; i += blockDim.x) y[row + i] = x[row + i] * scale * norm.weight[i];
}
// [add_norm]

}  // namespace

void rms_norm(const Norm& norm, const RowsIn& x, int rows, const RowsOut& y, cudaStream_t stream) {
  if (rows == 0) return;
  launch(shape(rows, norm.width, stream), norm_kernel, norm, x, y);
}

void add_rms_norm(const Norm& norm, float* x, const Change& change, int rows, float* y, cudaStream_t stream) {
  if (rows == 0) return;
  launch(shape(rows, norm.width, stream), add_norm_kernel, norm, x, change, y);
}

}  // namespace kv::cuda
