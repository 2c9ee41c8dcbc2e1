/// @file
/// Rung 1: the formula, typed in. A block for each head of each sequence, a thread for each token, everything in global
/// memory.
///
/// Bottleneck: a warp's 32 threads read 32 different rows, two bytes from each: 32 sectors of 32 bytes for 64 bytes of
/// use. The caches give back what they can hold of it.
/// Prediction: 1% of the roofline (batch 128, context 4096, 16 heads). Measured: docs/measured/ladder.md.
/// Traffic: each head reads each row twice, once as a key and once as a value: 2176 bytes per head and token, besides
/// the scores, which go through global memory three times.
/// Shared memory: 256 bytes for reductions. Architecture: any. Grid (H,B), 128 threads.
#include "chapters/06_cuda_kernels/ladder/rungs.hpp"
#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 128;

__global__ void __launch_bounds__(threads) naive_kernel(const MlaDecode problem, float* scores) {
  const int h = blockIdx.x, b = blockIdx.y, S = problem.lengths[b];
  const bf16* query = problem.query(b, h);
  float* weights = scores + problem.place(b, h) * problem.table_width * page_tokens;  // (S)

  // [scores]
  float largest = -INFINITY;
  for (int s = threadIdx.x; s < S; s += threads) {
    const bf16* key = problem.row(b, s);
    float score = 0.0f;
    for (int i = 0; i < latent_width; ++i) score += to_float(query[i]) * to_float(key[i]);
    weights[s] = score * problem.scale;
    largest = fmaxf(largest, weights[s]);
  }
  // [scores]
  // [softmax]
  largest = block_max(largest);
  float sum = 0.0f;
  for (int s = threadIdx.x; s < S; s += threads) {
    weights[s] = expf(weights[s] - largest);
    sum += weights[s];
  }
  sum = block_sum(sum);  // a barrier too: from here on all threads see all weights
  // [softmax]
  // [values]
  for (int i = threadIdx.x; i < value_width; i += threads) {
    float value = 0.0f;
    for (int s = 0; s < S; ++s) value += weights[s] * to_float(problem.row(b, s)[i]);
    problem.output[problem.place(b, h) * value_width + i] = to_bf16(S > 0 ? value / sum : 0.0f);
  }
  // [values]
  if (threadIdx.x == 0) problem.lse[problem.place(b, h)] = largest + logf(sum);
}

void run(const MlaDecode& problem, const Resources& resources) {
  require_fit(problem);
  if (problem.batch == 0) return;
  const dim3 grid(problem.heads, problem.batch);
  launch({grid, threads, 0, resources.stream}, naive_kernel, problem, static_cast<float*>(resources.workspace));
}

}  // namespace

Rung naive() {
  return {.number = 1,
          .name = "naive",
          .idea = "a thread for each token, all in global memory",
          .removes = "-",
          .prediction = {Percent{1, 1}, {}},
          .shared_bytes = reduction_bytes,
          .workspace_bytes = score_bytes,
          .launch = run};
}

}  // namespace kv::cuda
