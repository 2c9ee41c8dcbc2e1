#pragma once
/// @file
/// wgmma (sm_90a): a warpgroup, four warps from a multiple of 128 threads on, multiplies matrices in shared memory.
/// D (64xN, f32, in registers) += A (64x16) B (16xN), both bf16. It runs while the threads go on:
/// wgmma_fence, products, wgmma_commit, wgmma_wait; until then D must not be touched, nor the operands be overwritten.
///
/// Thread 32w + 4g + p holds of D in d[4j+i] row 16w + g + 8(i/2), column 8j + 2p + i%2; of an A in registers
/// in a[i] row 16w + g + 8(i%2), columns 2p + 8(i/2) and the next.
/// @see PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions"
#include "common/cuda/bfloat16.hpp"
#include "common/cuda/mbarrier.hpp"

namespace kv::cuda {

/// How an operand lies in shared memory. @see PTX ISA, "Matrix-descriptor"
using MatrixDescriptor = std::uint64_t;

/// Bytes of a box of 64x64 bf16, as tma_load stores it.
inline constexpr int box_bytes = 64 * 128;

/// A matrix whose rows (of A, or columns of B: the axis that is not summed) are the rows of boxes as tma_load stores
/// them: 128 bytes along the summed axis, eight rows are 1024 bytes. `first` is the box's first element; the next
/// 16 of the summed axis are at the descriptor + 2 (in units of 16 bytes).
__device__ inline MatrixDescriptor wgmma_descriptor(const bf16* first, Where where = Where::current()) {
  const unsigned address = shared_address(first, where);
  constexpr MatrixDescriptor unused_leading_bytes = 1, eight_rows = 1024 >> 4, swizzle_128_bytes = 1;
  return (address & 0x3ffff) >> 4 | unused_leading_bytes << 16 | eight_rows << 32 | swizzle_128_bytes << 62;
}

/// B, or A, for the transposed mode: the summed axis runs over the rows of the boxes, N along them. So the same tile of
/// tokens serves Q K^T by wgmma_descriptor and P V by this one. The next 64 columns of N are the next box; the next 16
/// rows of the summed axis are at the descriptor + 128.
/// @param bytes_to_next_box from the box with columns 0 to 63 of N to that with columns 64 to 127
__device__ inline MatrixDescriptor wgmma_descriptor_transposed(const bf16* first, int bytes_to_next_box = box_bytes,
                                                               Where where = Where::current()) {
  const unsigned address = shared_address(first, where);
  constexpr MatrixDescriptor eight_rows = 1024 >> 4, swizzle_128_bytes = 1;
  return (address & 0x3ffff) >> 4 | static_cast<MatrixDescriptor>(bytes_to_next_box >> 4 & 0x3fff) << 16 |
         eight_rows << 32 | swizzle_128_bytes << 62;
}

/// Before the first product, and whenever the threads have touched D or an A in registers.
__device__ inline void wgmma_fence() {
#if ON_GPU_WGMMA
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#elif ON_CPU
  simt::wgmma_fence();
#else
  unsupported();
#endif
}

/// The products since the last commit become a group.
__device__ inline void wgmma_commit() {
#if ON_GPU_WGMMA
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#elif ON_CPU
  simt::wgmma_commit();
#else
  unsupported();
#endif
}

/// Waits until at most the N latest groups are under way.
template <int N>
__device__ inline void wgmma_wait(Where where = Where::current()) {
#if ON_GPU_WGMMA
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
#elif ON_CPU
  simt::wgmma_wait(N, where);
#else
  unsupported();
#endif
}

// An accumulator's registers: their places in an instruction's text, and what is there.
#define KV_PLACES_8 "{%0,%1,%2,%3,%4,%5,%6,%7}, "
#define KV_PLACES_32 \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
#define KV_PLACES_128 \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63," \
  "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79," \
  "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95," \
  "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111," \
  "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}, "
#define KV_RESULTS_4(i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define KV_RESULTS_8(i) KV_RESULTS_4(i), KV_RESULTS_4((i) + 4)
#define KV_RESULTS_16(i) KV_RESULTS_4(i), KV_RESULTS_4((i) + 4), KV_RESULTS_4((i) + 8), KV_RESULTS_4((i) + 12)
#define KV_RESULTS_32(i) KV_RESULTS_16(i), KV_RESULTS_16((i) + 16)
#define KV_RESULTS_128(i) KV_RESULTS_32(i), KV_RESULTS_32((i) + 32), KV_RESULTS_32((i) + 64), KV_RESULTS_32((i) + 96)

/// D (64x16) += A (64x16) B (16x16), both in shared memory. @tparam TransposedA by wgmma_descriptor_transposed: the summed
/// axis runs over the rows of the boxes, the 64 rows of D along them
template <bool TransposedA = false>
__device__ inline void wgmma_m64n16k16(float (&d)[8], MatrixDescriptor a, MatrixDescriptor b, Where where = Where::current()) {
#if ON_GPU_WGMMA
  asm volatile("wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 " KV_PLACES_8 "%8, %9, 1, 1, 1, %10, 0;"
               : KV_RESULTS_8(0)
               : "l"(a), "l"(b), "n"(TransposedA ? 1 : 0));
#elif ON_CPU
  simt::wgmma({d, 16, nullptr, a, b, false, TransposedA}, where);
#else
  unsupported();
#endif
}

/// D (64x64) += A (64x16) B (16x64), both in shared memory. @tparam TransposedB by wgmma_descriptor_transposed
template <bool TransposedB = false>
__device__ inline void wgmma_m64n64k16(float (&d)[32], MatrixDescriptor a, MatrixDescriptor b, Where where = Where::current()) {
#if ON_GPU_WGMMA
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " KV_PLACES_32 "%32, %33, 1, 1, 1, 0, %34;"
               : KV_RESULTS_32(0)
               : "l"(a), "l"(b), "n"(TransposedB ? 1 : 0));
#elif ON_CPU
  simt::wgmma({d, 64, nullptr, a, b, TransposedB}, where);
#else
  unsupported();
#endif
}

/// The same with A in registers.
template <bool TransposedB = false>
__device__ inline void wgmma_m64n64k16(float (&d)[32], const std::uint32_t (&a)[4], MatrixDescriptor b, Where where = Where::current()) {
#if ON_GPU_WGMMA
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " KV_PLACES_32 "{%32,%33,%34,%35}, %36, 1, 1, 1, %37;"
               : KV_RESULTS_32(0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(TransposedB ? 1 : 0));
#elif ON_CPU
  simt::wgmma({d, 64, a, 0, b, TransposedB}, where);
#else
  unsupported();
#endif
}

/// D (64x256) += A (64x16) B (16x256), likewise.
template <bool TransposedB = false>
__device__ inline void wgmma_m64n256k16(float (&d)[128], MatrixDescriptor a, MatrixDescriptor b, Where where = Where::current()) {
#if ON_GPU_WGMMA
  asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " KV_PLACES_128 "%128, %129, 1, 1, 1, 0, %130;"
               : KV_RESULTS_128(0)
               : "l"(a), "l"(b), "n"(TransposedB ? 1 : 0));
#elif ON_CPU
  simt::wgmma({d, 256, nullptr, a, b, TransposedB}, where);
#else
  unsupported();
#endif
}

/// The same with A in registers.
template <bool TransposedB = false>
__device__ inline void wgmma_m64n256k16(float (&d)[128], const std::uint32_t (&a)[4], MatrixDescriptor b, Where where = Where::current()) {
#if ON_GPU_WGMMA
  asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " KV_PLACES_128 "{%128,%129,%130,%131}, %132, 1, 1, 1, %133;"
               : KV_RESULTS_128(0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(TransposedB ? 1 : 0));
#elif ON_CPU
  simt::wgmma({d, 256, a, 0, b, TransposedB}, where);
#else
  unsupported();
#endif
}

#undef KV_PLACES_8
#undef KV_PLACES_32
#undef KV_PLACES_128
#undef KV_RESULTS_4
#undef KV_RESULTS_8
#undef KV_RESULTS_16
#undef KV_RESULTS_32
#undef KV_RESULTS_128

}  // namespace kv::cuda
