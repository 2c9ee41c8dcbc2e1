#pragma once
/// @file
/// TMA (sm_90): one thread starts the copy of a whole box of a matrix. A box is 64 columns wide (128 bytes), stored row
/// after row with the 128-byte swizzle: the 16 bytes c of row r lie at 128 r + 16 (c xor r%8). This is how wgmma reads
/// without bank conflicts.
/// @see PTX ISA, "Tensors", "Data Movement and Conversion Instructions: cp.async.bulk.tensor"
#include "common/cuda/bfloat16.hpp"
#include "common/cuda/mbarrier.hpp"
#if defined(__CUDACC__)
#include <cuda.h>
#endif

namespace kv::cuda {

#if defined(__CUDACC__)
using TensorMap = CUtensorMap;
#else
using TensorMap = simt::TensorMap;
#endif

inline constexpr int tensor_box_columns = 64;

/// Describes a matrix in global memory to TMA. A kernel takes it as `const __grid_constant__ TensorMap`.
/// @param data aligned to 16 bytes  @param row_stride from a row to the next, in elements, a multiple of 8
/// @param box_rows 1 to 256
/// @throws CudaError
TensorMap make_tensor_map(const bf16* data, std::int64_t rows, std::int64_t columns, std::int64_t row_stride,
                          int box_rows);

/// Starts to copy the box at (row, column); its box_rows * 128 bytes are counted by `barrier` when they are there.
/// What lies outside of the matrix comes as zeros, and is counted too.
/// @param shared aligned to 1024 bytes
__device__ inline void tma_load(bf16* shared, const TensorMap* map, mbarrier* barrier, int column,
                                int row, Where where = Where::current()) {
#if ON_GPU_TMA
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(column), "r"(row)
      : "memory");
#elif ON_CPU
  simt::tma_load(shared, *map, &barrier->bits, column, row, where);
#else
  unsupported();
#endif
}

/// Fetches the description itself ahead of its first use.
__device__ inline void prefetch_tensor_map([[maybe_unused]] const TensorMap* map) {
#if ON_GPU_TMA
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
#endif
}

}  // namespace kv::cuda
