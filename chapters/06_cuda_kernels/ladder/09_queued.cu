/// @file
/// Rung 9: queued products. On rung 8 the first warpgroup waits until the values of a page are done, and only then asks for
/// the scores of the next. Between the two the tensor cores have nothing. Here the first box of the next page's scores is
/// queued behind the values, and the wait that follows is for the values alone. One box and no more: the page that is done
/// with is given back when that box is there, and must not wait for the others.
/// What makes it possible is the lazy maximum of rung 8: the output waits for no factor, so nobody touches it in between.
///
/// Removes: the gap between the values of a page and the scores of the next.
/// Bottleneck now: the places for pages, as on rung 8; and the softmax.
/// Prediction: 82-84% of the roofline at (batch 128, context 4096, 16 heads), 67-69% at 128 heads. The gap, a wait, 128
/// arrivals and the start of a product, is 150 to 200 clocks of the 2800 for which rung 8 uses a page: 0.1 us of 1.65. With
/// two places half of that is won: 3 us of 165 at 16 heads, 6 of 274 at 128. Never run on a GPU.
/// Error of the lazy maximum, here as on rung 8: none of its own. A weight is at most e^5, and rounding it to bf16 is off by
/// 2^-8 of itself whatever its size; sum and output grow alike.
/// Traffic, shared memory, architecture, grid: as rung 8.
#include "chapters/06_cuda_kernels/ladder/two_warpgroups.hpp"

namespace kv::cuda {
namespace {

using Shared = TwoWarpgroups<PageStages>;

struct Queued {
  // [order]
  /// The first box of the next page's scores is queued behind the values of this one.
  template <class Attend>
  static __device__ void pages(Shared& shared, Count& n, PageRange part, Attend attend) {
    WgmmaScores score;
    score_boxes(score, shared, n.pages, 0, boxes);
    wgmma_wait<0>();
    for (int i = part.first; i < part.end; ++i, ++n.pages, ++n.messages) {
      attend(score, i);
      if (i + 1 == part.end) {
        wgmma_wait<0>();
        shared.stages.release(n.pages);
      } else {
        score_boxes(score, shared, n.pages + 1, 0, 1);
        wgmma_wait<1>();  // for the values alone
        shared.stages.release(n.pages);
        score_boxes(score, shared, n.pages + 1, 1, boxes);
        wgmma_wait<0>();
      }
    }
  }
  // [order]
};

__global__ void __launch_bounds__(role_threads, 1)
    queued_kernel(const MlaDecode problem, const SplitWork work, const __grid_constant__ TensorMap queries,
                  const __grid_constant__ TensorMap latents) {
  Shared& shared = *dynamic_shared<Shared>();
  if (threadIdx.x == 0) {
    shared.stages.init(2 * warpgroup_threads);
    shared.init();
  }
  __syncthreads();
  const Share share = work.schedule.shares[blockIdx.y];
  in_roles([&] { first_warpgroup<Queued>(shared, problem, work, share); },
           [&] { second_warpgroup(shared, problem, work, share); },
           [&] { produce(shared, problem, share, &queries, &latents, blockIdx.x * warpgroup_heads); });
}

constexpr Cut cut{warpgroup_heads, 1};

void run(const MlaDecode& problem, const Resources& resources) {
  run_boxes(problem, resources, cut, {{}, role_threads, sizeof(Shared)}, queued_kernel);
}

}  // namespace

Rung queued() {
  return {.number = 9,
          .name = "queued products",
          .idea = "the next page's scores begin behind the values of this one",
          .removes = "the gap between two products",
          .prediction = {Percent{82, 84}, Percent{67, 69}},
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
