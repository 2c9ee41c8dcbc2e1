#pragma once
/// @file
/// Copies from global to shared memory that go on while the thread computes (sm_80).
/// The copy may be read by this thread after cp_async_wait, by others after a barrier as well.
/// @see PTX ISA, "Data Movement and Conversion Instructions: Non-bulk copy: cp.async"
#include "common/cuda/target.hpp"

namespace kv::cuda {

/// An address in shared memory as instructions take it.
__device__ inline unsigned shared_address(const void* address, Where where = Where::current()) {
#if ON_GPU
  return static_cast<unsigned>(__cvta_generic_to_shared(address));
#elif ON_CPU
  return simt::shared_offset(address, where);
#else
  return 0;
#endif
}

/// Starts to copy 16 bytes. Both addresses are multiples of 16.
__device__ inline void cp_async_16(void* shared, const void* global, Where where = Where::current()) {
#if ON_GPU
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
#elif ON_CPU
  simt::cp_async(shared, global, where);
#endif
}

/// What this thread has started since the last commit becomes a group.
__device__ inline void cp_async_commit() {
#if ON_GPU
  asm volatile("cp.async.commit_group;" ::: "memory");
#elif ON_CPU
  simt::cp_async_commit();
#endif
}

/// Waits until at most the N latest groups are under way.
template <int N>
__device__ inline void cp_async_wait(Where where = Where::current()) {
#if ON_GPU
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#elif ON_CPU
  simt::cp_async_wait(N, where);
#endif
}

}  // namespace kv::cuda
