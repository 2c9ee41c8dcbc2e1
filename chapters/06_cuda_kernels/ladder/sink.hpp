#pragma once
/// @file
/// Where a block leaves what it has found out about one sequence, two columns at a time.
#include "chapters/06_cuda_kernels/ladder/mla_decode.hpp"

namespace kv::cuda {

/// It has seen all tokens: this is the result.
struct Output {
  const MlaDecode& problem;
  int b;

  __device__ void store(int h, int column, float first, float second) const {
    *reinterpret_cast<unsigned*>(problem.output + problem.place(b, h) * value_width + column) = pack(first, second);
  }
  __device__ void store_lse(int h, float value) const { problem.lse[problem.place(b, h)] = value; }
};

/// It has seen some of the tokens: combine() will weigh this against what other blocks have seen.
struct Partial {
  float* values;  ///< (H,512), normalised
  float* lse;     ///< (H)

  __device__ void store(int h, int column, float first, float second) const {
    *reinterpret_cast<float2*>(values + h * value_width + column) = {first, second};
  }
  __device__ void store_lse(int h, float value) const { lse[h] = value; }
};

}  // namespace kv::cuda
