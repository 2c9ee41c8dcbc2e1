#pragma once
/// @file
/// Lets a plain C++20 compiler build a .cu file: CUDA's keywords and built-in variables; the intrinsics and the host API
/// are in the files it includes.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "common/cuda/simt/runtime.hpp"
#include "common/cuda/simt/vector_types.hpp"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

// A variable per block. A block runs on one thread of the operating system, so a variable per such thread will do.
// AddressSanitizer guards the ends of plain variables only, and the traffic counter finds plain variables only:
// these two run one block at a time.
#if defined(SIMT_ASAN) || defined(SIMT_TRAFFIC)
#define __shared__ static
#else
#define __shared__ static thread_local
#endif

inline constinit thread_local uint3 threadIdx{}, blockIdx{};
inline constinit thread_local dim3 blockDim, gridDim;
inline constexpr int warpSize = simt::warp_size;

using std::max;
using std::min;

#include "common/cuda/simt/atomics.hpp"
#include "common/cuda/simt/host_api.hpp"
#include "common/cuda/simt/mathematics.hpp"
#include "common/cuda/simt/warp.hpp"

inline void __syncthreads(simt::Where where = simt::Where::current()) { simt::sync_block(where); }
inline void __syncwarp(unsigned mask = simt::all_lanes, simt::Where where = simt::Where::current()) {
  simt::sync_warp(mask, where);
}
inline void __threadfence() { simt::fence(); }
inline void __threadfence_block() { simt::fence(); }
inline void __nanosleep(unsigned, simt::Where where = simt::Where::current()) { simt::yield(where); }
