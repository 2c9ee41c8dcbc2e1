#pragma once
/// @file
/// NVIDIA's matrix products, for files that nvcc compiles with a toolkit that has them (KV_CUBLAS).
#include <cublasLt.h>

#include "common/cuda/launch.hpp"

namespace kv::cuda {

/// @throws CudaError unless CUBLAS_STATUS_SUCCESS
inline void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) throw CudaError(std::string(what) + ": " + cublasLtGetStatusString(status));
}

}  // namespace kv::cuda
