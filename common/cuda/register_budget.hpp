#pragma once
/// @file
/// setmaxnreg (sm_90a): a warpgroup that only copies gives registers to those that compute. All warps of the warpgroup
/// call it; the kernel needs __launch_bounds__.
/// @see PTX ISA, "Miscellaneous Instructions: setmaxnreg"
#include "common/cuda/target.hpp"

namespace kv::cuda {

/// @tparam Registers per thread, a multiple of 8, 24 to 256
template <int Registers>
__device__ inline void lower_register_budget(Where where = Where::current()) {
  static_assert(Registers >= 24 && Registers <= 256 && Registers % 8 == 0);
#if ON_GPU_WGMMA
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
#elif ON_CPU
  simt::setmaxnreg(Registers, where);
#endif
}

/// Waits until so many registers are free.
template <int Registers>
__device__ inline void raise_register_budget(Where where = Where::current()) {
  static_assert(Registers >= 24 && Registers <= 256 && Registers % 8 == 0);
#if ON_GPU_WGMMA
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
#elif ON_CPU
  simt::setmaxnreg(Registers, where);
#endif
}

}  // namespace kv::cuda
