/// @file
/// Rung 7: the copy engine. One thread of a fifth warp asks TMA for boxes of 64 x 64 numbers; they arrive in shared memory
/// swizzled, and each reports to an mbarrier. The four warps that compute no longer copy, count or pad, and they start on
/// a page when its first box is there. They wait for each other twice a page, no more.
///
/// Removes: the instructions and registers that rung 6 spends on copying, two of its four block-wide barriers, and the
/// wait for a whole page.
/// Bottleneck now: at 16 heads memory; at 128 heads reading operands from shared memory for 16 heads at a time.
/// Prediction: 85-92% of the roofline at (batch 128, context 4096, 16 heads), 30-40% at 128 heads.
/// Measured: docs/measured/ladder.md.
/// Traffic: as rung 5. A page comes whole: rows beyond the end of a sequence, up to 63, are read too.
/// Shared memory: 170 KB, one block on a multiprocessor. Architecture: sm_90. Grid (H/16, shares), 160 threads.
#include "chapters/06_cuda_kernels/ladder/mma_tile.hpp"
#include "chapters/06_cuda_kernels/ladder/page_boxes.hpp"
#include "chapters/06_cuda_kernels/ladder/split.hpp"
#include "common/cuda/named_barrier.hpp"

namespace kv::cuda {
namespace {

constexpr int threads = MmaTile::threads + warp_threads;

struct Shared {
  PageStages stages;
  MmaTile tile;
};

/// All pages of a share, in the order in which they are used.
__device__ void produce(PageStages& stages, const MlaDecode& problem, const Share& share, const TensorMap* latents) {
  int n = 0;
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const PageRange part = share.part(b, pages_of(problem.lengths[b]));
    for (int i = part.first; i < part.end; ++i) stages.fetch(n++, latents, problem.page_number(b, i));
  }
}

/// Each warp clears those of its own tokens, which no other warp reads before the barriers of soften().
__device__ void clear_values_beyond(const PageBoxes& page, int rows, const MmaLane& lane) {
  const int first = lane.warp * MmaTile::tokens_of_warp, end = first + MmaTile::tokens_of_warp;
  __syncwarp();  // all lanes have read their operands
  page.clear_values(max(first, rows), end, lane.lane, warp_threads);
  fence_proxy_async();  // these writes come before TMA's next ones here
}

__device__ void consume(Shared& shared, const MlaDecode& problem, const SplitWork& work, const Share& share) {
  MmaTile& tile = shared.tile;
  PageStages& stages = shared.stages;
  const auto sync = [] { named_barrier_sync(1, MmaTile::threads); };  // not the warp that fetches
  const int first_head = blockIdx.x * MmaTile::heads, k = blockIdx.y;
  int n = 0;
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const int S = problem.lengths[b];
    const PageRange part = share.part(b, pages_of(S));
    if (S == 0) continue;  // combine() knows
    MmaLane lane;
    tile.load_queries(problem, b, first_head);
    sync();
    // [pages]
    for (int i = part.first; i < part.end; ++i, ++n) {
      const PageBoxes page = stages.page(n);
      const int rows = rows_of_page(S, i);
      lane.clear_scores();
#pragma unroll 1
      for (int box = 0; box < boxes; ++box) {
        stages.wait(n, box);
        lane.score_columns(tile, page, box * box_width);
      }
      if (rows < page_tokens) clear_values_beyond(page, rows, lane);
      lane.soften(tile, rows, problem.scale, sync);
      lane.add_values(tile, page);
      stages.release(n);
    }
    // [pages]
    deliver(problem, work, k, b, part,
            [&](const auto& sink) { lane.finish(tile, first_head, problem.heads, sync, sink); });
  }
}

__global__ void __launch_bounds__(threads)
    tma_kernel(const MlaDecode problem, const SplitWork work, const __grid_constant__ TensorMap latents) {
  Shared& shared = *dynamic_shared<Shared>();
  if (threadIdx.x == 0) {
    shared.stages.init(MmaTile::threads);
    mbarrier_init_done();
  }
  __syncthreads();
  const Share share = work.schedule.shares[blockIdx.y];
  if (threadIdx.x < MmaTile::threads)
    consume(shared, problem, work, share);
  else if (threadIdx.x == MmaTile::threads)
    produce(shared.stages, problem, share, &latents);
}

constexpr Cut cut{MmaTile::heads, 1};

void run(const MlaDecode& problem, const Resources& resources) {
  run_split(problem, resources, cut, [&](dim3 grid, const SplitWork& work) {
    if (problem.pages == 0) return;  // all sequences are empty, and a map of nothing cannot be made
    const TensorMap latents = latents_map(problem);
    launch({grid, threads, sizeof(Shared), resources.stream}, tma_kernel, problem, work, latents);
  });
}

}  // namespace

Rung tma() {
  return {.number = 7,
          .name = "TMA",
          .idea = "a copy engine fills swizzled boxes; mbarriers tell who may go on",
          .removes = "threads that copy",
          .prediction = {Percent{85, 92}, Percent{30, 40}},
          .capability = 90,
          .shared_bytes = sizeof(Shared),
          .rounds_weights = true,
          .workspace_bytes = split_bytes<cut>,
          .launch = run,
          .share_count = split_shares<cut>};
}

}  // namespace kv::cuda
