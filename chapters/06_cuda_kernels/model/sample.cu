#include "chapters/06_cuda_kernels/model/sample.hpp"

#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 1024, warps = threads / warp_threads;

struct Best {
  float score;
  int token;
};

__device__ Best better(const Best& a, const Best& b) {
  return b.score > a.score || (b.score == a.score && b.token < a.token) ? b : a;
}

__device__ Best warp_best(Best best) {
#pragma unroll
  for (int offset = warp_threads / 2; offset > 0; offset /= 2)
    best = better(best, {__shfl_xor_sync(all_lanes, best.score, offset), __shfl_xor_sync(all_lanes, best.token, offset)});
  return best;
}

/// The block's best, known to thread 0.
__device__ Best largest(const float* row, int count) {
  __shared__ Best of_warp[warps];
  Best best{-INFINITY, no_token};
#pragma unroll 8  // a vocabulary is long, and a block has a latency to hide
  for (int v = threadIdx.x; v < count; v += threads)
    best = better(best, row[v] < INFINITY ? Best{row[v], v} : Best{INFINITY, no_token});  // NaN is not
  best = warp_best(best);
  if (threadIdx.x % warp_threads == 0) of_warp[threadIdx.x / warp_threads] = best;
  __syncthreads();
  for (int w = 0; w < warps && threadIdx.x == 0; ++w) best = better(best, of_warp[w]);
  return best;
}

// [next]
__global__ void __launch_bounds__(threads)
    most_likely_kernel(const float* logits, int vocabulary, const NextRows next) {
  const int n = blockIdx.x;
  const Best best = largest(logits + std::size_t(n) * vocabulary, vocabulary);
  if (threadIdx.x != 0) return;
  const std::size_t step = next.positions[n] - next.first_positions[n];
  next.tokens[step * gridDim.x + n] = best.token;
  next.ids[n] = max(best.token, 0);  // a row of the embedding in any case
  ++next.positions[n];
}
// [next]

__global__ void __launch_bounds__(threads) last_kernel(const float* logits, int vocabulary, int* tokens) {
  const Best best = largest(logits + std::size_t(blockIdx.x) * vocabulary, vocabulary);
  if (threadIdx.x == 0) tokens[blockIdx.x] = best.token;
}

}  // namespace

void most_likely(const float* logits, int rows, int vocabulary, const NextRows& next, cudaStream_t stream) {
  if (rows == 0) return;
  launch({rows, threads, 0, stream}, most_likely_kernel, logits, vocabulary, next);
}

void most_likely(const float* logits, int rows, int vocabulary, int* tokens, cudaStream_t stream) {
  if (rows == 0) return;
  launch({rows, threads, 0, stream}, last_kernel, logits, vocabulary, tokens);
}

}  // namespace kv::cuda
