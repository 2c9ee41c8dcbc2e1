#pragma once
/// @file
/// Tensor cores for one warp (sm_80): products of 16x16 and 16x8, and the loads that bring operands into place.
/// Lane 4g+p holds: of A (16x16) a[i] = rows g + 8(i%2), columns 2p + 8(i/2) and the next;
/// of B (16x8) b[i] = rows 2p + 8i and the next, column g; of D (16x8) d[i] = row g + 8(i/2), column 2p + i%2.
#include "common/cuda/async_copy.hpp"
#include "common/cuda/bfloat16.hpp"

namespace kv::cuda {

/// D += A B in f32, the factors in bf16. @see PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"
__device__ inline void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                    Where where = Where::current()) {
#if ON_GPU
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif ON_CPU
  simt::mma_m16n8k16(d, a, b, where);
#endif
}

/// Four 8x8 tiles of bf16 from shared memory. Lane 8t+r gives the address of row r of tile t (16 bytes, aligned); lane
/// 4g+p receives in registers[t] the elements (g, 2p) and (g, 2p+1) of tile t, transposed: (2p, g) and (2p+1, g).
/// @see PTX ISA, "Warp-level matrix load instruction: ldmatrix"
template <bool Transposed>
__device__ inline void ldmatrix_x4(std::uint32_t (&registers)[4], const bf16* row, Where where = Where::current()) {
#if ON_GPU
  const unsigned address = shared_address(row);
  if constexpr (Transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(address)
                 : "memory");
#elif ON_CPU
  simt::ldmatrix_x4(registers, row, Transposed, where);
#endif
}

}  // namespace kv::cuda
