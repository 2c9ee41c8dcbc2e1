/// @file
/// Rung 2: a warp for each token. What rung 1 asked of one thread, 32 neighbours do together: they read one row, 16 bytes
/// each, and add up by shuffles.
///
/// Removes: uncoalesced reads. All bytes of all sectors that a warp asks for are used.
/// Bottleneck now: every head reads the whole cache, twice, and mostly from L2; a shuffle reduction for each score.
/// Prediction: 5-8% of the roofline (batch 128, context 4096, 16 heads). Measured: docs/measured/ladder.md.
/// Traffic: as rung 1, 2176 bytes per head and token, now in whole sectors.
/// Shared memory: 256 bytes for reductions. Architecture: any. Grid (H,B), 128 threads.
#include "chapters/06_cuda_kernels/ladder/four_columns.hpp"
#include "chapters/06_cuda_kernels/ladder/rungs.hpp"
#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 128, warps = threads / warp_threads;
constexpr int pieces = latent_width / 8;  // of 16 bytes in a row: lanes 0 ... 7 have three, the others two
static_assert(threads * 4 == value_width, "each thread sums four columns of the values");

__global__ void __launch_bounds__(threads) warp_per_token_kernel(const MlaDecode problem, float* scores) {
  const int h = blockIdx.x, b = blockIdx.y, S = problem.lengths[b];
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  const bf16* query = problem.query(b, h);
  float* weights = scores + problem.place(b, h) * problem.table_width * page_tokens;  // (S)

  // [scores]
  float largest = -INFINITY;
  for (int s = warp; s < S; s += warps) {
    const bf16* key = problem.row(b, s);
    float score = 0.0f;
    for (int i = lane; i < pieces; i += warp_threads)
      score = dot_8(load_8(query, i), load_8(key, i), score);
    score = warp_sum(score) * problem.scale;
    if (lane == 0) weights[s] = score;
    largest = fmaxf(largest, score);
  }
  // [scores]
  largest = block_max(largest);  // a barrier too: from here on all threads see all scores
  float sum = 0.0f;
  for (int s = threadIdx.x; s < S; s += threads) {
    weights[s] = expf(weights[s] - largest);
    sum += weights[s];
  }
  sum = block_sum(sum);

  // [values]
  FourColumns value;
  for (int s = 0; s < S; ++s) value.add(weights[s], load_4(problem.row(b, s), threadIdx.x));
  // [values]
  value.scale(S > 0 ? 1.0f / sum : 0.0f);
  value.store(problem.output + problem.place(b, h) * value_width, threadIdx.x);
  if (threadIdx.x == 0) problem.lse[problem.place(b, h)] = largest + logf(sum);
}

void run(const MlaDecode& problem, const Resources& resources) {
  require_fit(problem);
  if (problem.batch == 0) return;
  const dim3 grid(problem.heads, problem.batch);
  launch({grid, threads, 0, resources.stream}, warp_per_token_kernel, problem, static_cast<float*>(resources.workspace));
}

}  // namespace

Rung warp_per_token() {
  return {.number = 2,
          .name = "warp per token",
          .idea = "32 lanes read one row, 16 bytes each",
          .removes = "uncoalesced reads",
          .prediction = {Percent{5, 8}, {}},
          .shared_bytes = reduction_bytes,
          .workspace_bytes = score_bytes,
          .launch = run};
}

}  // namespace kv::cuda
