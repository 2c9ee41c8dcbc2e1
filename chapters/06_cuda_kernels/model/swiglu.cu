#include "chapters/06_cuda_kernels/model/swiglu.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 128;

__global__ void __launch_bounds__(threads) swiglu_kernel(const float* gate_up, int width, float* y) {
  const int f = blockIdx.x * threads + threadIdx.x;
  if (f >= width) return;
  const float* row = gate_up + std::size_t(blockIdx.y) * 2 * width;
  const float gate = row[f];
  y[std::size_t(blockIdx.y) * width + f] = gate / (1.0f + expf(-gate)) * row[width + f];
}

__global__ void __launch_bounds__(threads) gate_rows_kernel(const float* gate, int width, float* y) {
  const int m = blockIdx.x * threads + threadIdx.x;
  if (m < width) y[std::size_t(blockIdx.y) * width + m] *= 1.0f / (1.0f + expf(-gate[blockIdx.y]));
}

}  // namespace

void swiglu(const float* gate_up, int rows, int width, float* y, cudaStream_t stream) {
  if (rows == 0) return;
  launch({dim3((width + threads - 1) / threads, rows), threads, 0, stream}, swiglu_kernel, gate_up, width, y);
}

void gate_rows(const float* gate, int rows, int width, float* y, cudaStream_t stream) {
  if (rows == 0) return;
  launch({dim3((width + threads - 1) / threads, rows), threads, 0, stream}, gate_rows_kernel, gate, width, y);
}

}  // namespace kv::cuda
