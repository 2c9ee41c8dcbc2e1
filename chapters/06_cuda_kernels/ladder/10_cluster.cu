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
  int rank, size;  // set before init()

  /// By one thread. @param consumers of a block that call release() for each page
  __device__ void init(int consumers) { PageStages::init(consumers / warp_threads * size); }
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

struct ClusterKernel : TwoWarpgroupsKernel<InTurn, ClusterStages> {
  // [cluster]
  /// Tiles of heads go in pairs, if they come in pairs.
  static __host__ __device__ unsigned cluster(unsigned tiles) { return tiles % 2 == 0 ? 2 : 1; }

  static __device__ void init(Shared& shared) {
    shared.stages.rank = cluster_rank(), shared.stages.size = cluster(gridDim.x);
    TwoWarpgroupsKernel::init(shared);
  }
  /// No box comes, and nobody arrives, before the barriers of both blocks are there.
  static __device__ void meet() { cluster_sync(); }

  template <class Fetch>
  static __device__ void roles(Shared& shared, const MlaDecode& problem, const SplitWork& work,
                               const Share& share, Fetch fetch) {
    TwoWarpgroupsKernel::roles(shared, problem, work, share, fetch);
    __syncwarp();
    cluster_sync();  // the other block may still arrive here
  }
  // [cluster]
};

}  // namespace

Rung cluster() {
  return boxes_rung<ClusterKernel>({.number = 10,
                                    .name = "cluster",
                                    .idea = "two blocks ask for the boxes of a page in turns; each box comes to both",
                                    .removes = "a page read once for each 64 heads",
                                    .prediction = {Percent{81, 83}, Percent{76, 83}},
                                    .untried = true});
}

}  // namespace kv::cuda
