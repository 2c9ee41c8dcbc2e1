/// @file
/// Rung 7b: eight warps. On rung 7 a multiprocessor has four warps that multiply, one for each of its schedulers, and while
/// that one waits for an operand or for the product before, its scheduler does nothing. Here each scheduler has two. A warp
/// has half of the tokens and half of the columns, and its scores are two sums, of every other 16 columns, so that a
/// product need not wait for the one before.
///
/// Removes: one warp for a scheduler, and products that wait for each other.
/// Bottleneck now: at 16 heads memory. At 128 heads shared memory: eight warps read the queries instead of four. For each
/// page and tile queries 147,456 bytes, keys 73,728, weights 16,384 and values 65,536, and 73,728 that TMA writes: 2944
/// clocks at 128 bytes each. Rung 7 asks for 2304, and takes about twice as long.
/// Prediction: 78-88% of the roofline at (batch 128, context 4096, 16 heads), 17-21% at 128 heads: a page takes 2944 clocks
/// and up to a fifth more, 1.7 to 2.1 us at 1.7 GHz, where rung 7 took 2.8. Never run on a GPU.
/// Traffic: as rung 7.
/// Shared memory: 170 KB, one block on a multiprocessor. Architecture: sm_90. Grid (H/16, shares), 288 threads.
#include "chapters/06_cuda_kernels/ladder/mma_boxes.hpp"

namespace kv::cuda {
namespace {

struct InTwoSums {
  static constexpr int warps = 8;

  // [scores]
  /// One ldmatrix brings 32 columns of a warp's 8 tokens. The first 16 and the others have a sum
  /// each, so no product waits for the one just before.
  static __device__ void of_page(MmaLane<warps>& lane, const MmaTile<warps>& tile,
                                 PageStages& stages, int n) {
    const PageBoxes page = stages.page(n);
    const int token = lane.warp * MmaTile<warps>::tokens_of_warp + lane.lane % 8;
    const int head = lane.lane % 16;
    lane.clear_scores();
#pragma unroll
    for (int column = 0; column < latent_width; column += 32) {
      if (column % box_width == 0) stages.wait(n, column / box_width);
      std::uint32_t a[2][4], b[4];
      for (int i = 0; i < 2; ++i)
        ldmatrix_x4<false>(a[i], &tile.queries[head][column + i * 16 + lane.lane / 16 * 8]);
      ldmatrix_x4<false>(b, page.at(token, column + lane.lane / 8 * 8));
      mma_m16n8k16(lane.score[0], a[0], {b[0], b[1]});
      mma_m16n8k16(lane.score[1], a[1], {b[2], b[3]});
    }
    for (int i = 0; i < 4; ++i) lane.score[0][i] += lane.score[1][i];
  }
  // [scores]
};

}  // namespace

Rung eight_warps() {
  return {.number = 7,
          .letter = 'b',
          .name = "eight warps",
          .idea = "two warps for each scheduler, two sums for each score",
          .removes = "one warp for a scheduler",
          .prediction = {Percent{78, 88}, Percent{17, 21}},
          .capability = 90,
          .untried = true,
          .shared_bytes = sizeof(MmaShared<InTwoSums::warps>),
          .rounds_weights = true,
          .workspace_bytes = split_bytes<mma_cut>,
          .launch = run_tma<InTwoSums>,
          .share_count = split_shares<mma_cut>};
}

}  // namespace kv::cuda
