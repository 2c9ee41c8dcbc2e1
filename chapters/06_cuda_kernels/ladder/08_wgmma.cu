/// @file
/// Rung 8: warpgroup products. wgmma takes both operands from shared memory by itself, 64 heads at a time, so a page read
/// once serves 64 heads. The output, 64 x 512 in f32, would be half of the register file for one warpgroup: two of them
/// hold half of its columns each. The first one also makes the scores and the weights. two_warpgroups.hpp has all of it.
///
/// Removes: loading operands through registers for 16 heads at a time.
/// Bottleneck now: at 128 heads the tensor cores wait while the first warpgroup takes exponentials; per page and tile
/// about 1150 clocks of scores and 1025 of values are one after the other, with the softmax between them. And a page's
/// place is free only after both, so little more than one page is on its way at a time.
/// Prediction: 55-65% of the roofline at (batch 128, context 4096, 128 heads). None was made for 16 heads, where three
/// quarters of each product are padding. Measured: docs/measured/ladder.md.
/// Traffic: 1152 bytes for each token and 64 heads; a page comes whole.
/// Shared memory: 231 KB, one block on a multiprocessor. Architecture: sm_90a only. Grid (H/64, shares), 384 threads: two
/// warpgroups that compute with 232 registers each, 128 of them output, and one that fetches and needs 40.
#include "chapters/06_cuda_kernels/ladder/two_warpgroups.hpp"

namespace kv::cuda {
namespace {

using Shared = TwoWarpgroups<PageStages>;

__global__ void __launch_bounds__(role_threads, 1)
    wgmma_kernel(const MlaDecode problem, const SplitWork work, const __grid_constant__ TensorMap queries,
                 const __grid_constant__ TensorMap latents) {
  Shared& shared = *dynamic_shared<Shared>();
  if (threadIdx.x == 0) {
    shared.stages.init(2 * warpgroup_threads);
    shared.init();
  }
  __syncthreads();
  const Share share = work.schedule.shares[blockIdx.y];
  in_roles([&] { first_warpgroup<InTurn>(shared, problem, work, share); },
           [&] { second_warpgroup(shared, problem, work, share); },
           [&] { produce(shared, problem, share, &queries, &latents, blockIdx.x * warpgroup_heads); });
}

constexpr Cut cut{warpgroup_heads, 1};

void run(const MlaDecode& problem, const Resources& resources) {
  run_boxes(problem, resources, cut, {{}, role_threads, sizeof(Shared)}, wgmma_kernel);
}

}  // namespace

Rung wgmma() {
  return {.number = 8,
          .name = "wgmma",
          .idea = "a page read once serves 64 heads; two warpgroups hold half of the output each",
          .removes = "operands loaded for 16 heads at a time",
          .prediction = {{}, Percent{55, 65}},
          .capability = 90,
          .only_there = true,
          .shared_bytes = sizeof(Shared),
          .rounds_weights = true,
          .workspace_bytes = split_bytes<cut>,
          .launch = run,
          .share_count = split_shares<cut>};
}

}  // namespace kv::cuda
