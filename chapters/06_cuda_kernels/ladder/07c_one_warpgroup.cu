/// @file
/// Rung 7c: wgmma, as little as possible around it. A warpgroup, four warps, multiplies 64 heads with a page; both operands
/// lie in shared memory, and no thread loads them. The output, 64 x 512 in f32, would be 256 registers of each thread, and
/// there are 255. So a block has half of its columns, and two blocks make the same scores.
///
/// Removes: operands through registers, for 16 heads at a time.
/// Bottleneck now: the products are one after the other with the softmax between them, and the scores are made twice.
/// Prediction: 45-49% of the roofline at (batch 128, context 4096, 16 heads), 32-35% at 128 heads. A page is used for 1152
/// clocks of scores, 512 for half of the values, about 700 for a softmax that rescales every time and 300 of waiting: 1.6 us
/// at 1.7 GHz. Before that its place is filled, in about 2.5 us. With two places a page comes every 2.0 us. Two blocks for
/// each 64 heads make that 124 pages for a multiprocessor at 16 heads, 252 us, and twice that at 128; schedule and combine
/// are 20 more. Never run on a GPU.
/// Traffic: 1152 bytes for each token and 64 heads, twice; a page comes whole.
/// Shared memory: 222 KB, one block on a multiprocessor. Architecture: sm_90a only. Grid (2 H/64, shares), 160 threads.
#include "chapters/06_cuda_kernels/ladder/wgmma_feed.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = warpgroup_threads + warp_threads;

struct Shared {
  PageStages stages;
  alignas(1024) bf16 queries[boxes * box_size];  // boxes like a page's, with a row for each head
  mbarrier queries_full, queries_empty;
};

__device__ void consume(Shared& shared, const MlaDecode& problem, const SplitWork& work, const Share& share,
                        int first_head, int half) {
  const WgmmaLane lane;
  const int k = blockIdx.y;
  Count n;
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const int S = problem.lengths[b];
    const PageRange part = share.part(b, pages_of(S));
    if (S == 0) continue;  // combine() knows
    WgmmaValues value = {};
    OnlineSoftmax softmax[2];
    mbarrier_wait(&shared.queries_full, n.sequences++ % 2);
    // [pages]
    for (int i = part.first; i < part.end; ++i, ++n.pages) {
      const PageBoxes page = shared.stages.page(n.pages);
      const int rows = rows_of_page(S, i);
      WgmmaScores score;
      score_boxes(score, shared, n.pages, 0, boxes);
      wgmma_wait<0>();
      if (i + 1 == part.end) mbarrier_arrive(&shared.queries_empty);
      mask_scores(score, lane, rows, problem.scale);
      const float2 factor = follow_largest(softmax, score);
      weigh_scores(score, softmax);
      WgmmaWeights weight;
      round_weights(weight, score);
      if (rows < page_tokens) clear_values_beyond(page, rows, lane);
      scale_rows(value, factor);
      add_values(value, weight, page, half);
      wgmma_wait<0>();
      shared.stages.release(n.pages);
    }
    // [pages]
    const float2 normalisation = finish(softmax);
    deliver(problem, work, k, b, part, [&](const auto& sink) {
      store_rows(value, normalisation, lane, half, first_head, problem.heads, sink);
      if (half == 0) store_lse(softmax, lane, first_head, problem.heads, sink);
    });
  }
}

__global__ void __launch_bounds__(threads, 1)
    one_warpgroup_kernel(const MlaDecode problem, const SplitWork work, const __grid_constant__ TensorMap queries,
                         const __grid_constant__ TensorMap latents) {
  Shared& shared = *dynamic_shared<Shared>();
  if (threadIdx.x == 0) {
    shared.stages.init(warpgroup_threads);
    mbarrier_init(&shared.queries_full, 1);
    mbarrier_init(&shared.queries_empty, warpgroup_threads);
    mbarrier_init_done();
  }
  __syncthreads();
  const Share share = work.schedule.shares[blockIdx.y];
  const int first_head = blockIdx.x / 2 * warpgroup_heads, half = blockIdx.x % 2;
  if (threadIdx.x < warpgroup_threads)
    consume(shared, problem, work, share, first_head, half);
  else if (threadIdx.x == warpgroup_threads)
    produce(shared, problem, share, &queries, &latents, first_head);
}

constexpr Cut cut{.tile_heads = warpgroup_heads, .blocks_each = 1, .column_blocks = 2};

void run(const MlaDecode& problem, const Resources& resources) {
  run_boxes(problem, resources, cut, {{}, threads, sizeof(Shared)}, one_warpgroup_kernel);
}

}  // namespace

Rung one_warpgroup() {
  return {.number = 7,
          .letter = 'c',
          .name = "one warpgroup",
          .idea = "wgmma multiplies 64 heads from shared memory; a block has half of the output's columns",
          .removes = "operands through registers",
          .prediction = {Percent{45, 49}, Percent{32, 35}},
          .capability = 90,
          .only_there = true,
          .untried = true,
          .shared_bytes = sizeof(Shared),
          .rounds_weights = true,
          .workspace_bytes = split_bytes<cut>,
          .launch = run,
          .share_count = split_shares<cut>};
}

}  // namespace kv::cuda
