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
/// Shared memory: 223 KB, one block on a multiprocessor. Architecture: sm_90a only. Grid (2 H/64, shares), 160 threads.
#include "chapters/06_cuda_kernels/ladder/wgmma_feed.hpp"

namespace kv::cuda {
namespace {

struct Shared {
  PageStages stages;
  alignas(1024) bf16 queries[boxes * box_size];  // boxes like a page's, with a row for each head
  mbarrier queries_full, queries_empty;
};

__device__ void consume(Shared& shared, const MlaDecode& problem, const SplitWork& work, const Share& share, int first_head) {
  const WgmmaLane lane;
  const int half = blockIdx.x % 2, k = blockIdx.y;
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

struct OneWarpgroup : BoxesKernel {
  using Shared = cuda::Shared;
  static constexpr Cut cut{.tile_heads = warpgroup_heads, .blocks_each = 1, .column_blocks = 2};
  static constexpr int threads = warpgroup_threads + warp_threads;

  static __device__ void init(Shared& shared) { init_feed(shared, warpgroup_threads); }
  template <class Fetch>
  static __device__ void roles(Shared& shared, const MlaDecode& problem, const SplitWork& work, const Share& share, Fetch fetch) {
    if (threadIdx.x < warpgroup_threads)
      consume(shared, problem, work, share, first_head<OneWarpgroup>());
    else if (threadIdx.x == warpgroup_threads)
      fetch();
  }
};

}  // namespace

Rung one_warpgroup() {
  return boxes_rung<OneWarpgroup>(
      {.number = 7,
       .letter = 'c',
       .name = "one warpgroup",
       .idea = "wgmma multiplies 64 heads from shared memory; a block has half of the output's columns",
       .removes = "operands through registers",
       .prediction = {Percent{45, 49}, Percent{32, 35}},
       .untried = true});
}

}  // namespace kv::cuda
