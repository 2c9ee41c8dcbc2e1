#pragma once
/// @file
/// Several sums over a warp at once.
#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {

// [scatter]
/// Values 0 ... 2*Kept-1 are left; half of them go to the lane that is Offset away, for half of its own.
template <int Kept, int Offset, int Count>
__device__ void exchange(float (&values)[Count]) {
  if constexpr (Kept == 0) {
    values[0] += __shfl_xor_sync(all_lanes, values[0], Offset);
  } else {
    const bool upper = (threadIdx.x & Offset) != 0;  // keeps the upper half
#pragma unroll
    for (int i = 0; i < Kept; ++i) {
      const float given = upper ? values[i] : values[i + Kept];
      values[i] = (upper ? values[i + Kept] : values[i]) + __shfl_xor_sync(all_lanes, given, Offset);
    }
  }
  if constexpr (Offset > 1) exchange<Kept / 2, Offset / 2>(values);
}

/// Sums each of Count values over all lanes. Lane l gets the sum of value l / (32/Count).
/// A butterfly for each would send every value five times. Here a lane gives half of its values away at each step, to the
/// lane that keeps those, until one is left: 31 exchanges for 32 values instead of 160.
/// @param values are lost
template <int Count>
__device__ float scatter_sums(float (&values)[Count]) {
  static_assert(Count >= 1 && Count <= warp_threads && (Count & (Count - 1)) == 0);
  exchange<Count / 2, warp_threads / 2>(values);
  return values[0];
}
// [scatter]

}  // namespace kv::cuda
