/// @file
/// Rung 8: warpgroup products. wgmma takes both operands from shared memory by itself, 64 heads at a time, so a page read
/// once serves 64 heads. The output, 64 x 512 in f32, would be half of the register file for one warpgroup: two of them
/// hold half of its columns each. The first one also makes the scores and the weights. two_warpgroups.hpp has all of it.
///
/// Removes: barriers at which both warpgroups wait, and most of the softmax between the two products.
/// Bottleneck now: at 128 heads the tensor cores wait while the first warpgroup takes exponentials; per page and tile
/// about 1150 clocks of scores and 1025 of values are one after the other, with the softmax between them. And a page's
/// place is free only after both, so little more than one page is on its way at a time.
/// Prediction: 55-65% of the roofline at (batch 128, context 4096, 128 heads). None was made for 16 heads, where three
/// quarters of each product are padding. It was made for the step from rung 7, before 7b, 7c and 7d stood between them. Measured: docs/measured/ladder.md.
/// Traffic: 1152 bytes for each token and 64 heads; a page comes whole.
/// Shared memory: 231 KB, one block on a multiprocessor. Architecture: sm_90a only. Grid (H/64, shares), 384 threads: two
/// warpgroups that compute with 232 registers each, 128 of them output, and one that fetches and needs 40.
#include "chapters/06_cuda_kernels/ladder/two_warpgroups.hpp"

namespace kv::cuda {

Rung wgmma() {
  return boxes_rung<TwoWarpgroupsKernel<InTurn>>(
      {.number = 8,
       .name = "wgmma",
       .idea = "a page read once serves 64 heads; two warpgroups hold half of the output each",
       .removes = "barriers for all, and a long softmax",
       .prediction = {{}, Percent{55, 65}}});
}

}  // namespace kv::cuda
