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

// [largest]
/// The block's best, known to thread 0.
template <class Score>
__device__ Best largest(int count, const Score& score) {
  __shared__ Best of_warp[warps];
  Best best{-INFINITY, 0};  // also where all are NaN
#pragma unroll 8  // a vocabulary is long, and a block has a latency to hide
  for (int v = threadIdx.x; v < count; v += threads) best = better(best, {score(v), v});
  best = warp_best(best);
  if (threadIdx.x % warp_threads == 0) of_warp[threadIdx.x / warp_threads] = best;
  __syncthreads();
  for (int w = 0; w < warps && threadIdx.x == 0; ++w) best = better(best, of_warp[w]);
  return best;
}
// [largest]

__global__ void __launch_bounds__(threads) most_likely_kernel(const float* logits, int vocabulary, int* tokens) {
  const float* row = logits + std::size_t(blockIdx.x) * vocabulary;
  const Best best = largest(vocabulary, [&](int v) { return row[v]; });
  if (threadIdx.x == 0) tokens[blockIdx.x] = best.token;
}

/// A hash with good bits everywhere (the finaliser of SplitMix64).
__device__ std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

// [gumbel]
/// Uniform and strictly between 0 and 1, so that both logarithms are finite; 2^23 steps, so that it is exact in f32.
__device__ float uniform(std::uint64_t stream, int v) {
  return ((mixed(stream + v * 0x9e3779b97f4a7c15u) >> 41) + 0.5f) * 0x1p-23f;
}

__global__ void __launch_bounds__(threads)
    sample_kernel(const float* logits, int vocabulary, float temperature, std::uint64_t seed, int* draws, int* tokens) {
  const int n = blockIdx.x;
  const float* row = logits + std::size_t(n) * vocabulary;
  const std::uint64_t stream = mixed(mixed(mixed(seed) + n) + draws[n]);
  const Best best = largest(vocabulary, [&](int v) { return row[v] / temperature - logf(-logf(uniform(stream, v))); });
  if (threadIdx.x != 0) return;
  tokens[n] = best.token;
  ++draws[n];
}
// [gumbel]

}  // namespace

void most_likely(const float* logits, int rows, int vocabulary, int* tokens, cudaStream_t stream) {
  if (rows == 0) return;
  launch({rows, threads, 0, stream}, most_likely_kernel, logits, vocabulary, tokens);
}

void sample(const float* logits, int rows, int vocabulary, float temperature, std::uint64_t seed, int* draws, int* tokens,
            cudaStream_t stream) {
  if (rows == 0) return;
  launch({rows, threads, 0, stream}, sample_kernel, logits, vocabulary, temperature, seed, draws, tokens);
}

}  // namespace kv::cuda
