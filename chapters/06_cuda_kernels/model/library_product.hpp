#pragma once
/// @file
/// Many rows times one matrix through cuBLASLt, NVIDIA's own product, with the numerics of gemm_bf16.hpp: x as high + low, a
/// product of each with sums in f32. Where the program is not built by nvcc, or the toolkit lacks it, there is none, and
/// gemm_bf16.hpp does it all. Compiled and never run: no GPU was at hand.
#include "chapters/06_cuda_kernels/model/linear.hpp"

namespace kv::cuda {

bool has_library_product();

/// linear() and gated_linear() for weights in bf16 without biases.
/// @throws CudaError, and where there is no library
void library_linear(const Matrix& weights, const RowsIn& x, int rows, const RowsOut& y, cudaStream_t stream);
void library_gated_linear(const Matrix& weights, const RowsIn& x, int rows, const RowsOut& y, cudaStream_t stream);

}  // namespace kv::cuda
