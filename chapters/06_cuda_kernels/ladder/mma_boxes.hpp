#pragma once
/// @file
/// The kernel of rungs 7 and 7b: pages that TMA brings, multiplied through mma.sync. The rungs differ in `Scores`: how many
/// `warps` there are, and how `of_page` has a lane make its scores.
#include "chapters/06_cuda_kernels/ladder/mma_tile.hpp"
#include "chapters/06_cuda_kernels/ladder/page_boxes.hpp"
#include "chapters/06_cuda_kernels/ladder/split.hpp"
#include "common/cuda/named_barrier.hpp"

namespace kv::cuda {

/// All pages of a share, in the order in which they are used.
__device__ inline void produce(PageStages& stages, const MlaDecode& problem, const Share& share, const TensorMap* latents) {
  int n = 0;
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const PageRange part = share.part(b, pages_of(problem.lengths[b]));
    for (int i = part.first; i < part.end; ++i) stages.fetch(n++, latents, problem.page_number(b, i));
  }
}

/// Zeros in the values beyond a sequence's end. Each warp clears those of its own tokens, which no other warp reads before
/// the barriers of soften().
template <int Warps>
__device__ void clear_values_beyond(const PageBoxes& page, int rows, const MmaLane<Warps>& lane) {
  constexpr int tokens = MmaTile<Warps>::tokens_of_warp;
  const int first = lane.warp * tokens, end = first + tokens;
  __syncwarp();  // all lanes have read their operands
  page.clear_values(max(first, rows), end, lane.lane, warp_threads);
  fence_proxy_async();  // these writes come before TMA's next ones here
}

template <int Warps>
struct MmaShared {
  PageStages stages;
  MmaTile<Warps> tile;
};

template <class Scores, int Warps>
__device__ void consume(MmaShared<Warps>& shared, const MlaDecode& problem, const SplitWork& work, const Share& share) {
  using Tile = MmaTile<Warps>;
  Tile& tile = shared.tile;
  PageStages& stages = shared.stages;
  const auto sync = [] { named_barrier_sync(1, Tile::threads); };  // not the warp that fetches
  const int first_head = blockIdx.x * Tile::heads, k = blockIdx.y;
  int n = 0;
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const int S = problem.lengths[b];
    const PageRange part = share.part(b, pages_of(S));
    if (S == 0) continue;  // combine() knows
    MmaLane<Warps> lane;
    tile.load_queries(problem, b, first_head);
    sync();
    // [pages]
    for (int i = part.first; i < part.end; ++i, ++n) {
      const PageBoxes page = stages.page(n);
      const int rows = rows_of_page(S, i);
      Scores::of_page(lane, tile, stages, n);
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

/// One warp more fetches.
template <class Scores>
inline constexpr int tma_threads = (Scores::warps + 1) * warp_threads;

template <class Scores>
__global__ void __launch_bounds__(tma_threads<Scores>)
    tma_kernel(const MlaDecode problem, const SplitWork work, const __grid_constant__ TensorMap latents) {
  using Tile = MmaTile<Scores::warps>;
  auto& shared = *dynamic_shared<MmaShared<Scores::warps>>();
  if (threadIdx.x == 0) {
    shared.stages.init(Tile::threads);
    mbarrier_init_done();
  }
  __syncthreads();
  const Share share = work.schedule.shares[blockIdx.y];
  if (threadIdx.x < Tile::threads)
    consume<Scores>(shared, problem, work, share);
  else if (threadIdx.x == Tile::threads)
    produce(shared.stages, problem, share, &latents);
}

inline constexpr Cut mma_cut{MmaTile<>::heads, 1};

template <class Scores>
void run_tma(const MlaDecode& problem, const Resources& resources) {
  run_split(problem, resources, mma_cut, [&](dim3 grid, const SplitWork& work) {
    if (problem.pages == 0) return;  // all sequences are empty, and a map of nothing cannot be made
    launch({grid, tma_threads<Scores>, sizeof(MmaShared<Scores::warps>), resources.stream}, tma_kernel<Scores>, problem,
           work, latents_map(problem));
  });
}

}  // namespace kv::cuda
