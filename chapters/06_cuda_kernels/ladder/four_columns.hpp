#pragma once
/// @file
/// A thread's part of a weighted sum of rows: four neighbouring columns. 128 threads have all 512.
#include "chapters/06_cuda_kernels/ladder/bf16x8.hpp"

namespace kv::cuda {

struct FourColumns {
  float sum[4] = {};

  // [add]
  __device__ void add(float weight, uint2 four) {
    sum[0] += weight * low_half(four.x);
    sum[1] += weight * high_half(four.x);
    sum[2] += weight * low_half(four.y);
    sum[3] += weight * high_half(four.y);
  }
  // [add]
  __device__ void add(float weight, float4 four) {
    sum[0] += weight * four.x;
    sum[1] += weight * four.y;
    sum[2] += weight * four.z;
    sum[3] += weight * four.w;
  }
  __device__ void scale(float factor) {
    for (float& s : sum) s *= factor;
  }
  __device__ float4 as_float4() const { return {sum[0], sum[1], sum[2], sum[3]}; }
  /// Rounded to bf16, in the place of a row that belongs to thread `i`.
  __device__ void store(bf16* row, int i) const {
    reinterpret_cast<uint2*>(row)[i] = {pack(sum[0], sum[1]), pack(sum[2], sum[3])};
  }
};

}  // namespace kv::cuda
