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
#include "chapters/06_cuda_kernels/ladder/mma_boxes.hpp"

namespace kv::cuda {
namespace {

struct BoxByBox {
  static constexpr int warps = 4;

  // [scores]
  /// A page's scores begin with its first box and not with its ninth.
  static __device__ void of_page(MmaLane<warps>& lane, const MmaTile<warps>& tile,
                                 PageStages& stages, int n) {
    lane.clear_scores();
#pragma unroll 1
    for (int box = 0; box < boxes; ++box) {
      stages.wait(n, box);
      lane.score_columns(tile, stages.page(n), box * box_width);
    }
  }
  // [scores]
};

}  // namespace

Rung tma() {
  return {.number = 7,
          .name = "TMA",
          .idea = "a copy engine fills swizzled boxes; mbarriers tell who may go on",
          .removes = "threads that copy",
          .prediction = {Percent{85, 92}, Percent{30, 40}},
          .capability = 90,
          .shared_bytes = sizeof(MmaShared<BoxByBox::warps>),
          .rounds_weights = true,
          .workspace_bytes = split_bytes<mma_cut>,
          .launch = run_tma<BoxByBox>,
          .share_count = split_shares<mma_cut>};
}

}  // namespace kv::cuda
