/// @file
/// Rung 3: read each row once. A page is copied to shared memory, where it serves as 64 keys and then as 64 values; the
/// softmax goes along page by page, so the scores need no memory that grows with the context.
///
/// Removes: the second read of each row, and the scores in global memory.
/// Bottleneck now: every head still has a block of its own, so the cache is read H times.
/// Prediction: 8-12% of the roofline (batch 128, context 4096, 16 heads). Measured: docs/measured/ladder.md.
/// Traffic: 1152 bytes per head and token.
/// Shared memory: 74.2 KB, three blocks on a multiprocessor. Architecture: any. Grid (H,B), 128 threads.
#include "chapters/06_cuda_kernels/ladder/four_columns.hpp"
#include "chapters/06_cuda_kernels/ladder/online_softmax.hpp"
#include "chapters/06_cuda_kernels/ladder/rungs.hpp"
#include "chapters/06_cuda_kernels/ladder/warp.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = 128, warps = threads / warp_threads;
constexpr int pieces = latent_width / 8;
static_assert(threads * 4 == value_width, "each thread sums four columns of the values");
static_assert(page_tokens == 2 * warp_threads, "a lane looks after two scores");

struct Shared {
  bf16 page[page_tokens][latent_width];  // rows beyond the sequence's end keep what they had, and are not looked at
  float score[page_tokens];
  float weight[page_tokens];
};

/// A warp reads a row: neighbours read neighbouring banks.
__device__ void score_rows(Shared& shared, const bf16* query, int rows, float scale) {
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  for (int r = warp; r < rows; r += warps) {
    float score = 0.0f;
    for (int i = lane; i < pieces; i += warp_threads) score = dot_8(load_8(query, i), load_8(shared.page[r], i), score);
    score = warp_sum(score) * scale;
    if (lane == 0) shared.score[r] = score;
  }
}

// [soften]
/// Every warp does all of it, so that every thread knows the softmax; the first one writes the weights down.
/// @return the factor for the values summed so far
__device__ float soften(Shared& shared, OnlineSoftmax& softmax, int rows) {
  const int lane = threadIdx.x % warp_threads;
  const float first = lane < rows ? shared.score[lane] : -INFINITY;
  const float second = lane + warp_threads < rows ? shared.score[lane + warp_threads] : -INFINITY;
  const float factor = softmax.renew(warp_max(fmaxf(first, second)));
  const float weights[2] = {softmax.weight(first), softmax.weight(second)};
  softmax.sum += warp_sum(weights[0] + weights[1]);
  if (threadIdx.x < warp_threads) shared.weight[lane] = weights[0], shared.weight[lane + warp_threads] = weights[1];
  return factor;
}
// [soften]

__global__ void __launch_bounds__(threads) shared_tile_kernel(const MlaDecode problem) {
  Shared& shared = *dynamic_shared<Shared>();
  const int h = blockIdx.x, b = blockIdx.y, S = problem.lengths[b];
  OnlineSoftmax softmax;
  FourColumns value;
  // [pages]
  for (int i = 0; i < pages_of(S); ++i) {
    const bf16* page = problem.page(b, i);
    const int rows = rows_of_page(S, i);
    for (int k = threadIdx.x; k < rows * pieces; k += threads)
      reinterpret_cast<uint4*>(shared.page)[k] = load_8(page, k);
    __syncthreads();
    score_rows(shared, problem.query(b, h), rows, problem.scale);
    __syncthreads();
    const float factor = soften(shared, softmax, rows);
    __syncthreads();
    value.scale(factor);
    for (int r = 0; r < rows; ++r) value.add(shared.weight[r], load_4(shared.page[r], threadIdx.x));
    __syncthreads();  // the next page comes to the same place
  }
  // [pages]
  value.scale(softmax.normalisation());
  value.store(problem.output + problem.place(b, h) * value_width, threadIdx.x);
  if (threadIdx.x == 0) problem.lse[problem.place(b, h)] = softmax.log_sum_exp();
}

void run(const MlaDecode& problem, const Resources& resources) {
  require_fit(problem);
  if (problem.batch == 0) return;
  const dim3 grid(problem.heads, problem.batch);
  launch({grid, threads, sizeof(Shared), resources.stream}, shared_tile_kernel, problem);
}

}  // namespace

Rung shared_tile() {
  return {.number = 3,
          .name = "shared tile",
          .idea = "a page in shared memory is keys, then values; online softmax",
          .removes = "the second read of each row",
          .prediction = {Percent{8, 12}, {}},
          .shared_bytes = sizeof(Shared),
          .workspace_bytes = no_bytes,
          .launch = run};
}

}  // namespace kv::cuda
