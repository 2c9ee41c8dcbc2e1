#pragma once
/// @file
/// Many rows of f32 times a matrix of bf16, on the tensor cores. They multiply bf16 only, and rounding x to bf16 would
/// cost 8 of its 24 bits in every layer. So x is written as a sum of two bf16 numbers, x = high + low, good to 16 bits,
/// and the weights, which are exact, are multiplied with both: twice the products, and a result that is still closer to
/// f32 than the checkpoint's own rounding.
///
/// A block makes a tile of 64 rows x 64 outputs with four warps, each 32 x 32. While the tensor cores work on one slice of
/// 32 inputs, the next slice of W is on its way by cp.async, that of x in registers.
#include "chapters/06_cuda_kernels/ladder/warp.hpp"
#include "chapters/06_cuda_kernels/model/high_low.hpp"
#include "chapters/06_cuda_kernels/model/linear.hpp"
#include "common/cuda/async_copy.hpp"
#include "common/cuda/tensor_core.hpp"

namespace kv::cuda {
namespace gemm_bf16 {

inline constexpr int threads = 128, tile = 64, depth = 32;
inline constexpr int pitch = depth + 8;  // 80 bytes: the eight rows that ldmatrix reads at a time lie in different banks
inline constexpr int pieces = depth / 8;            // of 16 bytes in a row of W
inline constexpr int pairs = depth / 2;             // of numbers in a row of x
inline constexpr int loads = tile * pairs / threads;

/// One slice of inputs.
struct Slice {
  bf16 w[tile * pitch];
  bf16 high[tile * pitch], low[tile * pitch];
};

/// Pairs of x that a thread carries from global to shared memory.
struct Carried {
  float2 pair[loads];
};

template <class Problem>
__device__ void load_weights(const Problem& p, const LinearPart& part, int first_output, int first, Slice& slice) {
  for (int e = threadIdx.x; e < tile * pieces; e += threads) {
    const int o = e / pieces, i = e % pieces * 8;
    bf16* to = slice.w + o * pitch + i;
    if (first_output + o < p.outputs && first + i < p.weights.stride)
      cp_async_16(to, p.weight_row(part, first_output + o) + first + i);
    else
      *reinterpret_cast<uint4*>(to) = uint4{0, 0, 0, 0};
  }
  cp_async_commit();
}

template <class Problem>
__device__ Carried load_rows(const Problem& p, const LinearPart& part, int first_row, int first) {
  Carried carried;
#pragma unroll
  for (int l = 0; l < loads; ++l) {
    const int e = threadIdx.x + l * threads, n = first_row + e / pairs, i = first + e % pairs * 2;
    carried.pair[l] = {0.0f, 0.0f};
    if (n >= part.rows) continue;
    const auto* row = p.x_row(part, n);
    if (i < p.weights.columns) carried.pair[l].x = to_float(row[i]);
    if (i + 1 < p.weights.columns) carried.pair[l].y = to_float(row[i + 1]);
  }
  return carried;
}

__device__ inline void store_rows(const Carried& carried, Slice& slice) {
#pragma unroll
  for (int l = 0; l < loads; ++l) {
    const int e = threadIdx.x + l * threads, at = e / pairs * pitch + e % pairs * 2;
    const HighLow x = split(carried.pair[l].x, carried.pair[l].y);
    *reinterpret_cast<std::uint32_t*>(slice.high + at) = x.high;
    *reinterpret_cast<std::uint32_t*>(slice.low + at) = x.low;
  }
}

/// A warp's 32 x 32 sums: [16 rows][8 outputs][registers of a result].
using Sums = float[2][4][4];

// [multiply]
__device__ inline void multiply(const Slice& slice, int warp_row, int warp_output, int lane, Sums& sums) {
#pragma unroll
  for (int i = 0; i < depth; i += 16) {
    std::uint32_t w[2][4];  // of 16 outputs each
#pragma unroll
    for (int b = 0; b < 2; ++b) ldmatrix_x4<false>(w[b], right_columns<pitch>(slice.w + (warp_output + b * 16) * pitch + i, lane));
#pragma unroll
    for (int a = 0; a < 2; ++a) {
      const int at = (warp_row + a * 16) * pitch + i;
      std::uint32_t high[4], low[4];
      ldmatrix_x4<false>(high, left<pitch>(slice.high + at, lane));
      ldmatrix_x4<false>(low, left<pitch>(slice.low + at, lane));
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        const std::uint32_t outputs[2]{w[b / 2][b % 2 * 2], w[b / 2][b % 2 * 2 + 1]};
        mma_m16n8k16(sums[a][b], low, outputs);  // the small ones first
        mma_m16n8k16(sums[a][b], high, outputs);
      }
    }
  }
}
// [multiply]

// [gemm]
template <class X, class Groups, class Store>
__global__ void __launch_bounds__(threads) kernel(const LinearProblem<bf16, X, Groups, Store> p) {
  __shared__ __align__(16) Slice slices[2];
  const LinearPart part = p.groups.part(blockIdx.z);
  const int first_row = blockIdx.y * tile, first_output = blockIdx.x * tile;
  if (first_row >= part.rows) return;
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  const int warp_row = warp / 2 * 32, warp_output = warp % 2 * 32;

  Sums sums = {};
  load_weights(p, part, first_output, 0, slices[0]);
  store_rows(load_rows(p, part, first_row, 0), slices[0]);
  for (int first = 0, now = 0; first < p.weights.stride; first += depth, now ^= 1) {
    cp_async_wait<0>();
    __syncthreads();  // this slice is here, and everybody has left the other
    const bool more = first + depth < p.weights.stride;
    Carried next;
    if (more) {
      load_weights(p, part, first_output, first + depth, slices[now ^ 1]);
      next = load_rows(p, part, first_row, first + depth);
    }
    multiply(slices[now], warp_row, warp_output, lane, sums);
    if (more) store_rows(next, slices[now ^ 1]);
  }

#pragma unroll
  for (int a = 0; a < 2; ++a)
#pragma unroll
    for (int b = 0; b < 4; ++b)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        p.store(part, first_row + warp_row + a * 16 + lane / 4 + r * 8, first_output + warp_output + b * 8 + lane % 4 * 2,
                sums[a][b][2 * r], sums[a][b][2 * r + 1]);
}
// [gemm]

template <class X, class Groups, class Store>
void queue(const LinearProblem<bf16, X, Groups, Store>& p, int groups, int most_rows, cudaStream_t stream) {
  const dim3 grid((p.outputs + tile - 1) / tile, (most_rows + tile - 1) / tile, groups);
  launch({grid, threads, 0, stream}, kernel<X, Groups, Store>, p);
}

}  // namespace gemm_bf16
}  // namespace kv::cuda
