#pragma once
/// @file
/// Launching kernels, and errors of the CUDA runtime as exceptions.
#include <functional>
#include <stdexcept>
#include <string>
#include <tuple>

#include "common/cuda/target.hpp"

namespace kv::cuda {

/// A CUDA call failed; the message says which, and CUDA's reason.
struct CudaError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// @throws CudaError unless cudaSuccess
inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // it has been reported: the next call starts afresh
  throw CudaError(std::string(what) + ": " + cudaGetErrorString(error));
}

struct Launch {
  dim3 grid, block;
  std::size_t shared_bytes = 0;  ///< dynamic
  cudaStream_t stream = nullptr;
  unsigned cluster = 1;          ///< blocks of one, neighbours along x: 1 to 8 (more than one: sm_90)
  bool early = false;            ///< may begin before the last grid has ended, where the device can do that: dependent_launch.hpp
};

#if defined(__CUDACC__)
inline bool launches_early() {
  static const bool can = [] {
    int device = 0, major = 0;
    check(cudaGetDevice(&device), "launch");
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "launch");
    return major >= 9;
  }();
  return can;
}
#endif

/// Starts kernel(arguments...) and returns; the arguments are converted to the kernel's parameters.
/// @throws CudaError: too many threads, too much shared memory
template <class... Parameters, class... Arguments>
void launch(const Launch& shape, void (*kernel)(Parameters...), Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
#if defined(__CUDACC__)
  // 48 KiB are granted without asking, but a kernel's static shared memory counts too, and is not known here.
  if (shape.shared_bytes > 0)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes)),
          "launch: shared memory");
  cudaLaunchConfig_t configuration{};
  configuration.gridDim = shape.grid;
  configuration.blockDim = shape.block;
  configuration.dynamicSmemBytes = shape.shared_bytes;
  configuration.stream = shape.stream;
  cudaLaunchAttribute attributes[2]{};
  configuration.attrs = attributes;
  if (shape.cluster > 1) {
    cudaLaunchAttribute& cluster = attributes[configuration.numAttrs++];
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {shape.cluster, 1, 1};
  }
  if (shape.early && launches_early()) {
    cudaLaunchAttribute& early = attributes[configuration.numAttrs++];
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
  }
  check(cudaLaunchKernelEx(&configuration, kernel, static_cast<Parameters>(arguments)...), "launch");
#else
  const auto thread = [kernel, values = std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)] {
    std::apply(kernel, values);
  };
  check(simt::launch({shape.grid, shape.block, shape.shared_bytes, shape.cluster, shape.early}, shape.stream, thread), "launch");
#endif
}

/// The block's dynamic shared memory, aligned to 1024 bytes.
template <class T>
__device__ inline T* dynamic_shared() {
#if defined(__CUDACC__)
  extern __shared__ __align__(1024) unsigned char kv_dynamic_shared[];
  return reinterpret_cast<T*>(kv_dynamic_shared);
#else
  return reinterpret_cast<T*>(simt::dynamic_shared());
#endif
}

}  // namespace kv::cuda
