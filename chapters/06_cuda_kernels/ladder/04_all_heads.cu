/// @file
/// Rung 4: one block for all heads of a sequence. Multi-query attention has one row of keys and values for all heads;
/// a page in shared memory is now used by 16 of them before it is given up.
///
/// Removes: the reads of the same rows by different heads.
/// Bottleneck now: f32 arithmetic, 2 x 1088 operations for each head and token on units made for a tenth of the tensor
/// cores' rate; loading and computing take turns; and as many blocks as sequences, however many multiprocessors wait.
/// Prediction: 15-25% of the roofline (batch 128, context 4096, 16 heads). Measured: docs/measured/ladder.md.
/// Traffic: 1152 bytes for each token and 16 heads. 128 heads are 8 tiles, which find the rows in L2.
/// Shared memory: 98.6 KB, two blocks on a multiprocessor. Architecture: any. Grid (H/16,B), 256 threads.
#include "chapters/06_cuda_kernels/ladder/head_tile.hpp"
#include "chapters/06_cuda_kernels/ladder/rungs.hpp"
#include "chapters/06_cuda_kernels/ladder/sink.hpp"

namespace kv::cuda {
namespace {

__global__ void __launch_bounds__(HeadTile::threads) all_heads_kernel(const MlaDecode problem) {
  HeadTile& tile = *dynamic_shared<HeadTile>();
  const int first_head = blockIdx.x * HeadTile::heads, b = blockIdx.y, S = problem.lengths[b];
  OnlineSoftmax softmax[HeadTile::heads_of_warp];
  float value[HeadTile::heads][2] = {};

  tile.load_queries(problem, b, first_head);  // the barrier after the page makes them visible
  // [pages]
  for (int i = 0; i < pages_of(S); ++i)
    tile.attend(problem.page(b, i), rows_of_page(S, i), problem.scale, softmax, value);
  // [pages]
  tile.finish(softmax, value, first_head, problem.heads, Output{problem, b});
}

void run(const MlaDecode& problem, const Resources& resources) {
  require_fit(problem);
  if (problem.batch == 0) return;
  const dim3 grid((problem.heads + HeadTile::heads - 1) / HeadTile::heads, problem.batch);
  launch({grid, HeadTile::threads, sizeof(HeadTile), resources.stream}, all_heads_kernel, problem);
}

}  // namespace

Rung all_heads() {
  return {.number = 4,
          .name = "all heads",
          .idea = "a page serves 16 heads",
          .removes = "a read of the cache for each head",
          .prediction = {Percent{15, 25}, {}},
          .shared_bytes = sizeof(HeadTile),
          .workspace_bytes = no_bytes,
          .launch = run};
}

}  // namespace kv::cuda
