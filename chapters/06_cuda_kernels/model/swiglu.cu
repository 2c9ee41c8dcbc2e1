#include "chapters/06_cuda_kernels/model/swiglu.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 128;

__global__ void __launch_bounds__(threads) gate_rows_kernel(const float* gate, int width, float* y) {
  const int m = blockIdx.x * threads + threadIdx.x;
  if (m < width) y[std::size_t(blockIdx.y) * width + m] *= 1.0f / (1.0f + expf(-gate[blockIdx.y]));
}

}  // namespace

void gate_rows(const float* gate, int rows, int width, float* y, cudaStream_t stream) {
  if (rows == 0) return;
  launch({dim3((width + threads - 1) / threads, rows), threads, 0, stream}, gate_rows_kernel, gate, width, y);
}

}  // namespace kv::cuda
