#pragma once
/// @file
/// A few rows times a matrix. Every weight is read once, 16 bytes at a time, a warp side by side along the inputs, and
/// used for up to eight rows of x that wait in shared memory. Bound by the weights' bytes: one FMA for 2 or 4 of them.
/// The order of a sum depends on its length alone: lane by lane, then in a tree over the lanes.
#include "chapters/06_cuda_kernels/model/linear.hpp"
#include "chapters/06_cuda_kernels/model/reduce.hpp"

namespace kv::cuda {
namespace gemv {

inline constexpr int threads = 128, warps = threads / warp_threads;
inline constexpr int outputs_of_warp = 4;  // loads in flight at a time, and uses of a number from shared memory
inline constexpr int outputs_of_block = warps * outputs_of_warp;
inline constexpr int chunk = 1024;         // inputs of a row in shared memory at a time

/// 16 bytes of weights, widened.
template <class W>
struct Piece {
  static constexpr int size = 16 / sizeof(W);
  float values[size];
};
__device__ inline Piece<float> load_piece(const float* from) {
  const float4 four = *reinterpret_cast<const float4*>(from);
  return {{four.x, four.y, four.z, four.w}};
}
__device__ inline Piece<bf16> load_piece(const bf16* from) {
  const uint4 words = *reinterpret_cast<const uint4*>(from);
  const auto low = [](unsigned word) { return __uint_as_float(word << 16); };
  const auto high = [](unsigned word) { return __uint_as_float(word & 0xffff0000u); };
  return {{low(words.x), high(words.x), low(words.y), high(words.y), low(words.z), high(words.z), low(words.w), high(words.w)}};
}

/// Columns first ... first+chunk-1 of N rows of x; zeros where there are none.
template <int N, class Problem>
__device__ void stage_rows(const Problem& p, const LinearPart& part, int first_row, int first, float (&x)[N][chunk]) {
  for (int n = 0; n < N; ++n) {
    const bool present = first_row + n < part.rows;
    const float* row = p.x.data + std::size_t(present ? p.groups.x_row(part.first_row + first_row + n) : 0) * p.x.stride + part.x_column;
    for (int i = threadIdx.x; i < chunk && i < p.weights.stride - first; i += threads)
      x[n][i] = present && first + i < p.weights.columns ? row[first + i] : 0.0f;
  }
}

// [gemv]
template <class W, int N, class Groups>
__global__ void __launch_bounds__(threads) kernel(const LinearProblem<W, Groups> p) {
  __shared__ float x[N][chunk];
  const LinearPart part = p.groups.part(blockIdx.y);
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  const int first_output = (blockIdx.x * warps + warp) * outputs_of_warp;
  const W* weights[outputs_of_warp];
#pragma unroll
  for (int o = 0; o < outputs_of_warp; ++o)  // the last one again where there are no more
    weights[o] = p.weights.data + std::size_t(part.first_weight + min(first_output + o, p.outputs - 1)) * p.weights.stride;

  for (int first_row = 0; first_row < part.rows; first_row += N) {
    float sums[outputs_of_warp * N] = {};
    for (int first = 0; first < p.weights.stride; first += chunk) {
      __syncthreads();
      stage_rows<N>(p, part, first_row, first, x);
      __syncthreads();
      const int end = min(chunk, p.weights.stride - first);
      for (int i = lane * Piece<W>::size; i < end; i += warp_threads * Piece<W>::size) {
        Piece<W> pieces[outputs_of_warp];
#pragma unroll
        for (int o = 0; o < outputs_of_warp; ++o) pieces[o] = load_piece(weights[o] + first + i);
#pragma unroll
        for (int n = 0; n < N; ++n)
#pragma unroll
          for (int o = 0; o < outputs_of_warp; ++o)
#pragma unroll
            for (int v = 0; v < Piece<W>::size; ++v) sums[o * N + n] += pieces[o].values[v] * x[n][i + v];
      }
    }
    const float sum = scatter_sums(sums);
    constexpr int lanes = warp_threads / (outputs_of_warp * N);  // that have the same sum
    const int o = first_output + lane / lanes / N, n = first_row + lane / lanes % N;
    if (lane % lanes == 0 && o < p.outputs && n < part.rows)
      p.y.data[std::size_t(part.first_row + n) * p.y.stride + part.y_column + o] = sum;
  }
}
// [gemv]

template <int N, class W, class Groups>
void launch_rows(const LinearProblem<W, Groups>& p, int groups, cudaStream_t stream) {
  const dim3 grid((p.outputs + outputs_of_block - 1) / outputs_of_block, groups);
  launch({grid, threads, 0, stream}, kernel<W, N, Groups>, p);
}

/// Queues the kernel for the least N that holds all rows of a group, or for 8 at a time.
template <class W, class Groups>
void queue(const LinearProblem<W, Groups>& p, int groups, int most_rows, cudaStream_t stream) {
  if (most_rows <= 1) return launch_rows<1>(p, groups, stream);
  if (most_rows <= 2) return launch_rows<2>(p, groups, stream);
  if (most_rows <= 4) return launch_rows<4>(p, groups, stream);
  launch_rows<few_rows>(p, groups, stream);
}

}  // namespace gemv
}  // namespace kv::cuda
