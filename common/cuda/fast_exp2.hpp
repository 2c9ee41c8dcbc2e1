#pragma once
/// @file
/// The exponential that a GPU has an instruction for.
/// @see PTX ISA, "Floating Point Instructions: ex2"
#include "common/cuda/target.hpp"

namespace kv::cuda {

/// 2^x, good to two units in the last place. Results below 2^-126 are 0 on a GPU; on the CPU they are not.
__device__ inline float fast_exp2(float x) {
#if ON_GPU
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}

}  // namespace kv::cuda
