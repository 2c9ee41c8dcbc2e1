#include "chapters/06_cuda_kernels/model/embed.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 128;

template <class W>
__global__ void embed_kernel(const Weights<W> embedding, const int* ids, float* x) {
  const int n = blockIdx.x;
  const W* row = embedding.data + std::size_t(ids[n]) * embedding.stride;
  for (int m = threadIdx.x; m < embedding.columns; m += threads) x[std::size_t(n) * embedding.columns + m] = to_float(row[m]);
}

__global__ void gather_kernel(const float* x, int width, const int* wanted, float* y) {
  const float* row = x + std::size_t(wanted[blockIdx.x]) * width;
  for (int m = threadIdx.x; m < width; m += threads) y[std::size_t(blockIdx.x) * width + m] = row[m];
}

}  // namespace

void embed(const Matrix& embedding, const Tokens& tokens, float* x, cudaStream_t stream) {
  if (tokens.count == 0) return;
  with_format(embedding, [&]<class W>(const Weights<W>& weights) {
    launch({tokens.count, threads, 0, stream}, embed_kernel<W>, weights, tokens.ids, x);
  });
}

void gather_rows(const float* x, int width, const int* wanted, int count, float* y, cudaStream_t stream) {
  if (count == 0) return;
  launch({count, threads, 0, stream}, gather_kernel, x, width, wanted, y);
}

}  // namespace kv::cuda
