// An exercise, in place of chapters/06_cuda_kernels/ladder/03_shared_tile.cu: see exercises.md
// Tests: 06_ladder_test 06_ladder_traffic 06_ladder_tsan
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

/// Every warp does all of it, so that every thread knows the softmax; the first one writes the weights down.
/// @return the factor for the values summed so far
__device__ float soften(Shared& shared, OnlineSoftmax& softmax, int rows) {
  // --- yours ---
  // shared.score (rows) to shared.weight (64), zeros beyond `rows`; `softmax` takes in the page: its largest score, and
  // in softmax.sum its weights. @return the factor of the sums so far. Every thread must return it.
  // --- end ---
}

__global__ void __launch_bounds__(threads) shared_tile_kernel(const MlaDecode problem) {
  Shared& shared = *dynamic_shared<Shared>();
  const int h = blockIdx.x, b = blockIdx.y, S = problem.lengths[b];
  OnlineSoftmax softmax;
  FourColumns value;
  // --- yours ---
  // Page by page: copy its rows_of_page(S, i) rows to shared.page, score_rows, soften, add four columns of the values.
  // --- end ---
  value.scale(softmax.normalisation());
  value.store(problem.output + problem.place(b, h) * value_width, threadIdx.x);
  if (threadIdx.x == 0) problem.lse[problem.place(b, h)] = softmax.log_sum_exp();
}

void run(const MlaDecode& problem, const Resources& resources) {
  require_fit(problem);
  // --- yours ---
  throw std::logic_error("exercise 06 03_shared_tile: the kernel is yours to write; then delete this line");
  // --- end ---
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
