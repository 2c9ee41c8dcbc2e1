/// @file
/// Rung 7d: two warpgroups. Each holds half of the output's columns, so one block has them all and the scores are made once,
/// by the first warpgroup. It leaves the weights where the tensor cores read them for both: in shared memory. The two go in
/// step, with two barriers for a page.
///
/// Removes: scores made twice.
/// Bottleneck now: everybody waits for the softmax, and the first warpgroup for the second before it begins the next page.
/// Prediction: 73-79% of the roofline at (batch 128, context 4096, 16 heads), 56-61% at 128 heads. A page is used for 1152
/// clocks of scores, 1024 of values, about 700 for a softmax that rescales every time and 500 for barriers: 2.0 us at
/// 1.7 GHz. Its place is filled in about 2.9 us at 16 heads, 2.5 at 128. With two places a page comes every 2.4 us, or 2.3.
/// That is 62 pages for a multiprocessor, 151 us, or 124 pages, 281; schedule and combine are 20 more. Never run on a GPU.
/// Traffic: 1152 bytes for each token and 64 heads; a page comes whole.
/// Shared memory: 231 KB, one block on a multiprocessor. Architecture: sm_90a only. Grid (H/64, shares), 384 threads.
#include "chapters/06_cuda_kernels/ladder/two_warpgroups.hpp"

namespace kv::cuda {
namespace {

struct Shared {
  PageStages stages;
  alignas(1024) bf16 queries[boxes * box_size];  // boxes like a page's, with a row for each head
  alignas(1024) bf16 weights[box_size];          // one box: heads x tokens
  float factor[warpgroup_heads];                 // for the output so far; at the end, its normalisation
  mbarrier queries_full, queries_empty;
};

/// The two warpgroups that compute.
__device__ void meet() { named_barrier_sync(2, 2 * warpgroup_threads); }

__device__ void put_factors(Shared& shared, const WgmmaLane& lane, float2 factor) {
  if (lane.c == 0) shared.factor[lane.row(0)] = factor.x, shared.factor[lane.row(1)] = factor.y;
}

// [scores]
/// A page's weights, and factors for the output so far, into shared memory.
__device__ void weigh_page(Shared& shared, OnlineSoftmax (&softmax)[2], const WgmmaLane& lane,
                           int n, int rows, float scale) {
  WgmmaScores score;
  score_boxes(score, shared, n, 0, boxes);
  wgmma_wait<0>();
  mask_scores(score, lane, rows, scale);
  put_factors(shared, lane, follow_largest(softmax, score));
  weigh_scores(score, softmax);
  WgmmaWeights weight;
  round_weights(weight, score);
  store_weights(shared.weights, weight, lane);
  if (rows < page_tokens) clear_values_beyond(shared.stages.page(n), rows, lane);
  fence_proxy_async();  // wgmma reads what ordinary stores have written
}
// [scores]

__device__ void attend(Shared& shared, const MlaDecode& problem, const SplitWork& work, const Share& share, int half) {
  const WgmmaLane lane;
  const int first_head = blockIdx.x * warpgroup_heads, k = blockIdx.y;
  const auto factors = [&] { return float2{shared.factor[lane.row(0)], shared.factor[lane.row(1)]}; };
  Count n;
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const int S = problem.lengths[b];
    const PageRange part = share.part(b, pages_of(S));
    if (S == 0) continue;  // combine() knows
    WgmmaValues value = {};
    OnlineSoftmax softmax[2];
    if (half == 0) mbarrier_wait(&shared.queries_full, n.sequences++ % 2);
    // [pages]
    for (int i = part.first; i < part.end; ++i, ++n.pages) {
      if (half == 0)
        weigh_page(shared, softmax, lane, n.pages, rows_of_page(S, i), problem.scale);
      else
        for (int box = value_boxes / 2; box < value_boxes; ++box) shared.stages.wait(n.pages, box);
      meet();  // the weights are there
      scale_rows(value, factors());
      add_values(value, shared.weights, shared.stages.page(n.pages), half);
      wgmma_wait<0>();
      shared.stages.release(n.pages);
      meet();  // and both have used them
    }
    // [pages]
    if (half == 0) mbarrier_arrive(&shared.queries_empty), put_factors(shared, lane, finish(softmax));
    meet();
    const float2 normalisation = factors();
    meet();  // the next sequence's factors may come
    deliver(problem, work, k, b, part, [&](const auto& sink) {
      store_rows(value, normalisation, lane, half, first_head, problem.heads, sink);
      if (half == 0) store_lse(softmax, lane, first_head, problem.heads, sink);
    });
  }
}

struct InStep : BoxesKernel {
  using Shared = cuda::Shared;
  static constexpr Cut cut{warpgroup_heads, 1};
  static constexpr int threads = role_threads;

  static __device__ void init(Shared& shared) { init_feed(shared, 2 * warpgroup_threads); }
  template <class Fetch>
  static __device__ void roles(Shared& shared, const MlaDecode& problem, const SplitWork& work, const Share& share, Fetch fetch) {
    in_roles([&] { attend(shared, problem, work, share, 0); }, [&] { attend(shared, problem, work, share, 1); }, fetch);
  }
};

}  // namespace

Rung two_warpgroups() {
  return boxes_rung<InStep>({.number = 7,
                             .letter = 'd',
                             .name = "two warpgroups",
                             .idea = "each holds half of the output's columns; weights pass through shared memory",
                             .removes = "scores made twice",
                             .prediction = {Percent{73, 79}, Percent{56, 61}},
                             .untried = true});
}

}  // namespace kv::cuda
