/// @file
/// Rung 6: tensor cores. The two products of rung 5 become mma.sync on operands that ldmatrix takes from shared memory,
/// and while they run, cp.async brings the next page to the other half of a double buffer.
///
/// Removes: f32 arithmetic as the limit, and loading in turns with computing.
/// Bottleneck now: at 16 heads memory, if enough loads are in flight: every thread spends instructions and registers on
/// copying. At 128 heads shared memory: four warps read a page and the queries through ldmatrix for 16 heads only, about
/// 213 KB for each page and tile, 1660 clocks at 128 bytes each, where the tensor cores need 544.
/// Prediction: 70-85% of the roofline at (batch 128, context 4096, 16 heads), 25-35% at 128 heads.
/// Measured: docs/measured/ladder.md.
/// Traffic: as rung 5.
/// Shared memory: 171 KB, one block on a multiprocessor. Architecture: sm_80. Grid (H/16, shares), 128 threads.
#include "chapters/06_cuda_kernels/ladder/mma_tile.hpp"
#include "chapters/06_cuda_kernels/ladder/split.hpp"

namespace kv::cuda {
namespace {

using Tile = MmaTile<>;

/// Rows one after the other, padded so that ldmatrix meets no bank conflict.
struct PaddedPage {
  bf16 (*rows)[Tile::pitch];  // (64)
  __device__ bf16* at(int row, int column) const { return &rows[row][column]; }
};

struct Shared {
  Tile tile;
  alignas(16) bf16 pages[2][page_tokens][Tile::pitch];
};

/// Queues the copy of a page; rows beyond the sequence's end become zeros.
__device__ void queue_page(PaddedPage page, const bf16* source, int rows) {
  constexpr int pieces = latent_width / 8;
  const uint4 zeros{0, 0, 0, 0};
  for (int k = threadIdx.x; k < page_tokens * pieces; k += Tile::threads) {
    const int r = k / pieces, i = k % pieces;
    if (r < rows)
      cp_async_16(page.at(r, i * 8), source + k * 8);
    else
      *reinterpret_cast<uint4*>(page.at(r, i * 8)) = zeros;
  }
  cp_async_commit();
}

__global__ void __launch_bounds__(Tile::threads) tensor_cores_kernel(const MlaDecode problem, const SplitWork work) {
  Shared& shared = *dynamic_shared<Shared>();
  Tile& tile = shared.tile;
  const auto sync = [] { __syncthreads(); };
  const int first_head = blockIdx.x * Tile::heads, k = blockIdx.y;
  const Share share = work.schedule.shares[k];
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const int S = problem.lengths[b];
    const PageRange part = share.part(b, pages_of(S));
    if (S == 0) continue;  // combine() knows
    MmaLane<> lane;
    tile.load_queries(problem, b, first_head);
    // [pages]
    const auto queue = [&](int i) {
      queue_page({shared.pages[i % 2]}, problem.page(b, i), rows_of_page(S, i));
    };
    queue(part.first);
    for (int i = part.first; i < part.end; ++i) {
      if (i + 1 < part.end) {
        queue(i + 1);
        cp_async_wait<1>();  // all but the newest have come: this page is here
      } else {
        cp_async_wait<0>();
      }
      __syncthreads();  // and so are the other threads' copies
      const PaddedPage page{shared.pages[i % 2]};
      lane.clear_scores();
#pragma unroll 1
      for (int column = 0; column < latent_width; column += 64)
        lane.score_columns(tile, page, column);
      lane.soften(tile, rows_of_page(S, i), problem.scale, sync);
      lane.add_values(tile, page);
      __syncthreads();  // the copy queued next goes where this page is
    }
    // [pages]
    deliver(problem, work, k, b, part,
            [&](const auto& sink) { lane.finish(tile, first_head, problem.heads, sync, sink); });
  }
}

constexpr Cut cut{Tile::heads, 1};

void run(const MlaDecode& problem, const Resources& resources) {
  run_split(problem, resources, cut, [&](dim3 grid, const SplitWork& work) {
    launch({grid, Tile::threads, sizeof(Shared), resources.stream}, tensor_cores_kernel, problem, work);
  });
}

}  // namespace

Rung tensor_cores() {
  return {.number = 6,
          .name = "tensor cores",
          .idea = "mma.sync, ldmatrix and a double buffer filled by cp.async",
          .removes = "f32 arithmetic",
          .prediction = {Percent{70, 85}, Percent{25, 35}},
          .shared_bytes = sizeof(Shared),
          .rounds_weights = true,
          .workspace_bytes = split_bytes<cut>,
          .launch = run,
          .share_count = split_shares<cut>};
}

}  // namespace kv::cuda
