#pragma once
/// @file
/// Barriers in shared memory that count arrivals and bytes (sm_90). Phases alternate between parity 0 and 1; a phase
/// ends when all arrivals and all announced bytes are there. A waiter names the parity of the phase it waits for: of
/// the first 0, of the second 1, and so on.
/// @see PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier"
#include "common/cuda/async_copy.hpp"

namespace kv::cuda {

struct alignas(8) mbarrier {
  std::uint64_t bits;
};

/// By one thread, before all others; then mbarrier_init_done, then a barrier of the block.
__device__ inline void mbarrier_init(mbarrier* barrier, int arrivals, Where where = Where::current()) {
#if ON_GPU_TMA
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
#elif ON_CPU
  simt::mbarrier_init(&barrier->bits, arrivals, where);
#else
  unsupported();
#endif
}

/// Lets TMA see what mbarrier_init has written.
__device__ inline void mbarrier_init_done() {
#if ON_GPU_TMA
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#elif ON_CPU
  simt::mbarrier_init_done();
#else
  unsupported();
#endif
}

__device__ inline void mbarrier_arrive(mbarrier* barrier, Where where = Where::current()) {
#if ON_GPU_TMA
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
#elif ON_CPU
  simt::mbarrier_arrive(&barrier->bits, where);
#else
  unsupported();
#endif
}

/// Arrives, and announces bytes that will come in this phase.
__device__ inline void mbarrier_expect_bytes(mbarrier* barrier, int bytes, Where where = Where::current()) {
#if ON_GPU_TMA
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
#elif ON_CPU
  simt::mbarrier_arrive_expect(&barrier->bits, bytes, where);
#else
  unsupported();
#endif
}

/// Waits for the end of the phase of this parity. What its arrivals had done, and its bytes, can be read afterwards.
__device__ inline void mbarrier_wait(mbarrier* barrier, int parity, Where where = Where::current()) {
#if ON_GPU_TMA
  unsigned passed = 0;
  while (!passed)
    asm volatile(
        "{\n"
        ".reg .pred passed;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 passed, [%1], %2;\n"
        "selp.u32 %0, 1, 0, passed;\n"
        "}"
        : "=r"(passed)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
#elif ON_CPU
  simt::mbarrier_wait(&barrier->bits, static_cast<unsigned>(parity), where);
#else
  unsupported();
#endif
}

/// What this thread has written to shared memory can be read by TMA and wgmma, which go another way than loads do.
/// @see PTX ISA, "Async proxy"
__device__ inline void fence_proxy_async() {
#if ON_GPU_TMA
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#elif ON_CPU
  simt::fence_proxy_async();
#else
  unsupported();
#endif
}

}  // namespace kv::cuda
