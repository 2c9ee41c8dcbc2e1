#pragma once
/// @file
/// Sums and maxima over a warp and over a block. Every thread gets the result.
#include "common/cuda/device.hpp"

namespace kv::cuda {

inline constexpr int warp_threads = 32;
inline constexpr unsigned all_lanes = 0xffffffffu;

// [warp]
/// A butterfly: after step `offset`, 2*offset lanes agree.
__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int offset = warp_threads / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(all_lanes, value, offset);
  return value;
}
__device__ inline float warp_max(float value) {
#pragma unroll
  for (int offset = warp_threads / 2; offset > 0; offset /= 2)
    value = fmaxf(value, __shfl_xor_sync(all_lanes, value, offset));
  return value;
}
// [warp]

/// Sum of the values of lanes 0 ... lane.
__device__ inline int warp_running_sum(int value) {
  const int lane = threadIdx.x % warp_threads;
#pragma unroll
  for (int offset = 1; offset < warp_threads; offset *= 2) {
    const int before = __shfl_up_sync(all_lanes, value, offset);
    if (lane >= offset) value += before;
  }
  return value;
}

/// Over the four lanes 4g ... 4g+3: those that hold a row of a tensor core's result.
__device__ inline float quad_sum(float value) {
  value += __shfl_xor_sync(all_lanes, value, 1);
  return value + __shfl_xor_sync(all_lanes, value, 2);
}
__device__ inline float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(all_lanes, value, 1));
  return fmaxf(value, __shfl_xor_sync(all_lanes, value, 2));
}

/// Shared memory of the two functions below, together.
inline constexpr std::size_t reduction_bytes = 2 * warp_threads * sizeof(float);

/// Over all warps of the block, at most 32. A barrier for the whole block: what a thread wrote before, all see after.
__device__ inline float block_sum(float value) {
  __shared__ float of_warp[warp_threads];
  value = warp_sum(value);
  if (threadIdx.x % warp_threads == 0) of_warp[threadIdx.x / warp_threads] = value;
  __syncthreads();
  const unsigned lane = threadIdx.x % warp_threads;
  value = warp_sum(lane < blockDim.x / warp_threads ? of_warp[lane] : 0.0f);
  __syncthreads();  // of_warp may be used again
  return value;
}
__device__ inline float block_max(float value) {
  __shared__ float of_warp[warp_threads];
  value = warp_max(value);
  if (threadIdx.x % warp_threads == 0) of_warp[threadIdx.x / warp_threads] = value;
  __syncthreads();
  const unsigned lane = threadIdx.x % warp_threads;
  value = warp_max(lane < blockDim.x / warp_threads ? of_warp[lane] : -INFINITY);
  __syncthreads();
  return value;
}

}  // namespace kv::cuda
