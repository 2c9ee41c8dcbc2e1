/// @file
/// Rung 5: split the sequences. Rung 4 has a block for each sequence, so one long sequence keeps one multiprocessor busy
/// and 131 idle, and a ragged batch waits for its longest. Here every block gets an equal share of all pages; what it
/// finds out about part of a sequence is combined with the other parts by their log-sum-exps.
///
/// Removes: idle multiprocessors.
/// Bottleneck now: f32 arithmetic, as in rung 4.
/// Prediction: 15-25% of the roofline at (batch 128, context 4096, 16 heads), as rung 4; far more than rung 4 for batch
/// 1. Measured: docs/measured/ladder.md.
/// Traffic: as rung 4, and 2 x 2052 bytes for each head and each part of a divided sequence.
/// Shared memory: 98.6 KB, two blocks on a multiprocessor. Architecture: any. Grid (H/16, shares), 256 threads, and two
/// small kernels: the schedule before, the combination after.
#include "chapters/06_cuda_kernels/ladder/head_tile.hpp"
#include "chapters/06_cuda_kernels/ladder/split.hpp"

namespace kv::cuda {
namespace {

__global__ void __launch_bounds__(HeadTile::threads) split_kernel(const MlaDecode problem, const SplitWork work) {
  HeadTile& tile = *dynamic_shared<HeadTile>();
  const int first_head = blockIdx.x * HeadTile::heads, k = blockIdx.y;
  const Share share = work.schedule.shares[k];
  // [share]
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const int S = problem.lengths[b];
    const PageRange part = share.part(b, pages_of(S));
    if (S == 0) continue;  // combine() knows
    OnlineSoftmax softmax[HeadTile::heads_of_warp];
    float value[HeadTile::heads][2] = {};
    tile.load_queries(problem, b, first_head);
    for (int i = part.first; i < part.end; ++i)
      tile.attend(problem.page(b, i), rows_of_page(S, i), problem.scale, softmax, value);
    deliver(problem, work, k, b, part,
            [&](const auto& sink) { tile.finish(softmax, value, first_head, problem.heads, sink); });
  }
  // [share]
}

constexpr Cut cut{HeadTile::heads, 2};

void run(const MlaDecode& problem, const Resources& resources) {
  run_split(problem, resources, cut, [&](dim3 grid, const SplitWork& work) {
    launch({grid, HeadTile::threads, sizeof(HeadTile), resources.stream}, split_kernel, problem, work);
  });
}

}  // namespace

Rung split() {
  return {.number = 5,
          .name = "split",
          .idea = "equal shares of all pages, combined by log-sum-exp",
          .removes = "idle multiprocessors",
          .prediction = {Percent{15, 25}, {}},
          .shared_bytes = sizeof(HeadTile),
          .workspace_bytes = split_bytes<cut>,
          .launch = run,
          .share_count = split_shares<cut>};
}

}  // namespace kv::cuda
