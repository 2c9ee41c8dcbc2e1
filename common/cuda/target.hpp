#pragma once
/// @file
/// Which compilation this is. nvcc reads a .cu file once for the host and once for each GPU; a plain C++ compiler reads
/// it once, for the CPU runtime. A primitive has one branch for the GPU and one for the CPU:
///   ON_GPU        nvcc, code for a GPU
///   ON_CPU        a C++ compiler, code for the CPU runtime
///   ON_GPU_TMA    a GPU with mbarrier waits and TMA (sm_90 and later)
///   ON_GPU_WGMMA  a GPU with wgmma, setmaxnreg and multicast copies (sm_90a alone)
/// In nvcc's reading for the host all are 0. A primitive that a GPU lacks traps there, so every file compiles for every
/// architecture; the host chooses kernels by device_properties().
#include <cstddef>
#include <cstdint>
#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include "common/cuda/simt/cuda_runtime.hpp"
#endif

#if defined(__CUDACC__)
#define ON_CPU 0
#else
#define ON_CPU 1
#endif

#if defined(__CUDA_ARCH__)
#define ON_GPU 1
#define ON_GPU_TMA (__CUDA_ARCH__ >= 900)
#else
#define ON_GPU 0
#define ON_GPU_TMA 0
#endif

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ON_GPU_WGMMA 1
#else
#define ON_GPU_WGMMA 0
#endif

namespace kv::cuda {

#if ON_CPU
/// Where a kernel calls a primitive, for the CPU runtime's reports.
using Where = simt::Where;
#else
/// Nothing: a GPU reports no lines.
struct Where {
  __host__ __device__ static constexpr Where current() { return {}; }
};
#endif

/// This GPU lacks the instruction: the kernel stops, and the next call of the host fails.
__device__ inline void unsupported() {
#if ON_GPU
  __trap();
#endif
}

}  // namespace kv::cuda
