/// @file
/// Rung 10: a cluster of two blocks. 128 heads are two tiles, and until here the block of each asks for the same pages. Two
/// blocks that run side by side can ask together: each asks for every other box, and TMA puts it into the shared memory of
/// both. A page then leaves L2 once for 128 heads. A place is free when both blocks have left it: arrivals go to both.
///
/// Removes: a page that is read once for each 64 heads.
/// Bottleneck now: the use of a page: scores, softmax and values of 64 heads, one after the other.
/// Prediction: 76-83% of the roofline at (batch 128, context 4096, 128 heads). A place was filled in about 2.5 us: 0.7 until
/// the first byte, and 73,728 bytes at a 132nd of 5.3 TB/s. Half of the bytes leave it at about 1.6, a page comes every
/// (1.6 + 1.65) / 2 us, 124 take 203, and 20 for schedule and combine. At 16 heads there is one tile and no cluster: as
/// rung 8, which took 82%. The products are in rung 8's order, so that one thing alone is new. Never run on a GPU.
/// Traffic: 1152 bytes for each token and 128 heads, where tiles come in pairs.
/// Shared memory: as rung 8. Architecture: sm_90a only. Grid (H/64, shares), 384 threads, clusters of two along H.
#include "chapters/06_cuda_kernels/ladder/two_warpgroups.hpp"

namespace kv::cuda {
namespace {

// [stages]
/// Pages that the blocks of a cluster fetch together; what one of them asks for comes to all.
struct ClusterStages : PageStages {
  int rank, size;

  /// By one thread. @param warps of a block that call release() for each page
  __device__ void init(int warps, int blocks) {
    rank = cluster_rank(), size = blocks;
    PageStages::init(warps * blocks);
  }
  /// Both blocks fetch the same pages in the same order.
  __device__ void fetch(int n, const TensorMap* latents, int page) {
    const int s = n % stages;
    if (n >= stages) mbarrier_wait(&empty[s], (n / stages - 1) % 2);  // in all blocks
    for (int i = 0; i < boxes; ++i) mbarrier_expect_bytes(&full[s][i], box_bytes);
    for (int i = rank; i < boxes; i += size)
      tma_load_multicast(pages[s] + i * box_size, latents, &full[s][i], i * box_width,
                         page * page_tokens, (1u << size) - 1);
  }
  /// A warp has left the page: one lane says so to every block.
  __device__ void release(int n) {
    __syncwarp();
    if (threadIdx.x % warp_threads != 0) return;
    for (int block = 0; block < size; ++block)
      mbarrier_arrive_in_block(&empty[n % stages], block);
  }
};
// [stages]

using Shared = TwoWarpgroups<ClusterStages>;
static_assert(sizeof(Shared) <= 227 * 1024, "what a block may have");

__global__ void __launch_bounds__(role_threads, 1)
    cluster_kernel(const MlaDecode problem, const SplitWork work, const __grid_constant__ TensorMap queries,
                   const __grid_constant__ TensorMap latents, const int blocks) {
  Shared& shared = *dynamic_shared<Shared>();
  if (threadIdx.x == 0) {
    shared.stages.init(2 * warpgroup_threads / warp_threads, blocks);
    shared.init();
  }
  cluster_sync();  // no box comes, and nobody arrives, before the barriers of both blocks are there
  const Share share = work.schedule.shares[blockIdx.y];
  in_roles([&] { first_warpgroup<InTurn>(shared, problem, work, share); },
           [&] { second_warpgroup(shared, problem, work, share); },
           [&] { produce(shared, problem, share, &queries, &latents, blockIdx.x * warpgroup_heads); });
  __syncwarp();
  cluster_sync();  // the other block may still arrive here
}

constexpr Cut cut{warpgroup_heads, 1};

void run(const MlaDecode& problem, const Resources& resources) {
  const int blocks = cut.tiles(problem) % 2 == 0 ? 2 : 1;
  run_boxes(problem, resources, cut, {{}, role_threads, sizeof(Shared), nullptr, unsigned(blocks)},
            cluster_kernel, blocks);
}

}  // namespace

Rung cluster() {
  return {.number = 10,
          .name = "cluster",
          .idea = "two blocks ask for the boxes of a page in turns; each box comes to both",
          .removes = "a page read once for each 64 heads",
          .prediction = {Percent{81, 83}, Percent{76, 83}},
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
