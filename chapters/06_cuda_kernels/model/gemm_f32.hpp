#pragma once
/// @file
/// Many rows times a matrix in f32, by FMA: a block makes a tile of 64 rows x 64 outputs, each thread 8 x 4 of them. A
/// number from global memory is used 64 times, one from shared memory 4 or 8 times.
#include "chapters/06_cuda_kernels/model/linear.hpp"

namespace kv::cuda {
namespace gemm_f32 {

inline constexpr int threads = 128, tile = 64, depth = 16;
inline constexpr int rows_of_thread = 8, outputs_of_thread = 4;
inline constexpr int pitch = tile + 4;  // keeps the 16 rows of a column in different banks

// [gemm]
template <class Groups>
__global__ void __launch_bounds__(threads) kernel(const LinearProblem<float, Groups> p) {
  __shared__ float x[depth][pitch], w[depth][pitch];  // [input][row], [input][output]
  const LinearPart part = p.groups.part(blockIdx.z);
  const int first_row = blockIdx.y * tile, first_output = blockIdx.x * tile;
  if (first_row >= part.rows) return;
  const int row = threadIdx.x / (tile / outputs_of_thread) * rows_of_thread;
  const int output = threadIdx.x % (tile / outputs_of_thread) * outputs_of_thread;

  float sums[rows_of_thread][outputs_of_thread] = {};
  for (int first = 0; first < p.weights.columns; first += depth) {
    for (int e = threadIdx.x; e < tile * depth; e += threads) {
      const int i = e % depth, n = e / depth;  // neighbours read neighbours
      const bool in_depth = first + i < p.weights.columns;
      x[i][n] = in_depth && first_row + n < part.rows
                    ? p.x.data[std::size_t(p.groups.x_row(part.first_row + first_row + n)) * p.x.stride + part.x_column + first + i]
                    : 0.0f;
      w[i][n] = in_depth && first_output + n < p.outputs
                    ? p.weights.data[std::size_t(part.first_weight + first_output + n) * p.weights.stride + first + i]
                    : 0.0f;
    }
    __syncthreads();
    for (int i = 0; i < depth; ++i)
#pragma unroll
      for (int a = 0; a < rows_of_thread; ++a)
#pragma unroll
        for (int b = 0; b < outputs_of_thread; ++b) sums[a][b] += x[i][row + a] * w[i][output + b];
    __syncthreads();
  }
#pragma unroll
  for (int a = 0; a < rows_of_thread; ++a)
#pragma unroll
    for (int b = 0; b < outputs_of_thread; ++b) {
      const int n = first_row + row + a, o = first_output + output + b;
      if (n < part.rows && o < p.outputs)
        p.y.data[std::size_t(part.first_row + n) * p.y.stride + part.y_column + o] = sums[a][b];
    }
}
// [gemm]

template <class Groups>
void queue(const LinearProblem<float, Groups>& p, int groups, int most_rows, cudaStream_t stream) {
  const dim3 grid((p.outputs + tile - 1) / tile, (most_rows + tile - 1) / tile, groups);
  launch({grid, threads, 0, stream}, kernel<Groups>, p);
}

}  // namespace gemm_f32
}  // namespace kv::cuda
