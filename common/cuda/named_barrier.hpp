#pragma once
/// @file
/// Barriers for some warps of a block. Number 0 is __syncthreads; 1 to 15 are free.
/// @see PTX ISA, "Parallel Synchronization and Communication Instructions: bar"
#include "common/cuda/target.hpp"

namespace kv::cuda {

/// Waits until `threads` threads (a multiple of 32) have come to barrier `id`.
__device__ inline void named_barrier_sync(int id, int threads, Where where = Where::current()) {
#if ON_GPU
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#elif ON_CPU
  simt::sync_named(id, threads, where);
#endif
}

/// Counts as one of the `threads` and goes on: those that wait there see what this thread has done.
__device__ inline void named_barrier_arrive(int id, int threads, Where where = Where::current()) {
#if ON_GPU
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#elif ON_CPU
  simt::arrive_named(id, threads, where);
#endif
}

}  // namespace kv::cuda
