#pragma once
/// @file
/// Clusters (sm_90): blocks that run at the same time, close to each other, and reach each other's dynamic shared memory.
/// Launch::cluster says how many neighbours along x are one. A block must not end while others still use its memory.
/// @see PTX ISA, "Cluster of Cooperative Thread Arrays", "barrier.cluster", "mapa"
#include "common/cuda/tensor_map.hpp"

namespace kv::cuda {

/// The block's number in its cluster.
__device__ inline int cluster_rank() {
#if ON_GPU_TMA
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
#elif ON_CPU
  return static_cast<int>(simt::cluster_rank());
#else
  unsupported();
  return 0;
#endif
}

/// Waits for all threads of the cluster; what they have done can be read afterwards.
__device__ inline void cluster_sync(Where where = Where::current()) {
#if ON_GPU_TMA
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
#elif ON_CPU
  simt::sync_cluster(where);
#else
  unsupported();
#endif
}

/// Where block `rank` has what this block has at `shared`, an address in dynamic shared memory.
template <class T>
__device__ T* in_block(T* shared, int rank, Where where = Where::current()) {
#if ON_GPU_TMA
  std::uint64_t address;
  asm("mapa.u64 %0, %1, %2;" : "=l"(address) : "l"(shared), "r"(rank));
  return reinterpret_cast<T*>(address);
#elif ON_CPU
  return static_cast<T*>(simt::in_block(shared, static_cast<unsigned>(rank), where));
#else
  unsupported();
  return nullptr;
#endif
}

/// Arrives at block `rank`'s barrier. It lies in dynamic shared memory, where this block has `barrier`.
__device__ inline void mbarrier_arrive_in_block(mbarrier* barrier, int rank, Where where = Where::current()) {
#if ON_GPU_TMA
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
#elif ON_CPU
  simt::mbarrier_arrive_in_block(&barrier->bits, static_cast<unsigned>(rank), where);
#else
  unsupported();
#endif
}

/// tma_load to the same place in each block whose rank is a bit of `ranks`. Each one's barrier, at the place of `barrier`,
/// counts its bytes, so each must expect them. sm_90a alone: some later processors have no fast way for it, and ptxas then refuses it.
__device__ inline void tma_load_multicast(bf16* shared, const TensorMap* map, mbarrier* barrier, int column, int row,
                                          unsigned ranks, Where where = Where::current()) {
#if ON_GPU_WGMMA
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(column), "r"(row), "h"(static_cast<std::uint16_t>(ranks))
      : "memory");
#elif ON_CPU
  simt::tma_load_multicast(shared, *map, &barrier->bits, column, row, ranks, where);
#else
  unsupported();
#endif
}

}  // namespace kv::cuda
