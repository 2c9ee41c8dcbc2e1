#pragma once
/// @file
/// Programmatic dependent launch (sm_90): a grid that is launched early begins while the one before it in the stream still
/// runs, so starting it costs no time of its own. Until it waits it may touch nothing that earlier grids write, or read.
/// GPUs without it start every grid after the last, and there is nothing to wait for.
/// @see CUDA C++ Programming Guide, "Programmatic Dependent Launch and Synchronization"; PTX ISA, "griddepcontrol"
#include "common/cuda/target.hpp"

namespace kv::cuda {

/// Waits until the grid before has ended, and with it what that one has waited for. Every thread of a grid that is launched
/// early calls this before it touches memory that changes.
__device__ inline void wait_for_last_grid() {
#if ON_GPU_TMA
  asm volatile("griddepcontrol.wait;" ::: "memory");
#elif ON_CPU
  simt::wait_for_last_grid();
#endif
}

/// The next grid may begin when all blocks have called this or have ended. Nothing else follows from it.
__device__ inline void let_next_grid_begin() {
#if ON_GPU_TMA
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

}  // namespace kv::cuda
