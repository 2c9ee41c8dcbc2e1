#pragma once
/// @file
/// What the blocks of rungs 7c to 11 share: TMA brings the queries of a sequence as boxes, and its pages.
/// `Shared` is a rung's shared memory. It has `stages`, `queries` (9, heads, 64) and the barriers `queries_full` and
/// `queries_empty`.
#include "chapters/06_cuda_kernels/ladder/split.hpp"
#include "chapters/06_cuda_kernels/ladder/wgmma_tile.hpp"

namespace kv::cuda {

/// Counts what passes between the warpgroups and from the producer; all of them count alike.
struct Count {
  int pages = 0, messages = 0, sequences = 0;
};

/// One thread fetches the queries of each sequence and all pages of the share, in the order in which they are used.
/// @param heads of the block, rows of a box of queries
template <class Shared>
__device__ void produce(Shared& shared, const MlaDecode& problem, const Share& share, const TensorMap* queries,
                        const TensorMap* latents, int first_head, int heads) {
  const int query_box = heads * box_width;
  Count n;
  for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
    const PageRange part = share.part(b, pages_of(problem.lengths[b]));
    if (part.first >= part.end) continue;
    const auto fetch = [&](int i) { shared.stages.fetch(n.pages++, latents, problem.page_number(b, i)); };
    fetch(part.first);  // it need not wait until the last sequence's queries are done with
    if (n.sequences > 0) mbarrier_wait(&shared.queries_empty, (n.sequences - 1) % 2);
    ++n.sequences;
    mbarrier_expect_bytes(&shared.queries_full, boxes * query_box * static_cast<int>(sizeof(bf16)));
    // Heads that do not exist are the next sequence's, or zeros at the end: they cost time and change nothing.
    for (int i = 0; i < boxes; ++i)
      tma_load(shared.queries + i * query_box, queries, &shared.queries_full, i * box_width,
               b * problem.heads + first_head);
    for (int i = part.first + 1; i < part.end; ++i) fetch(i);
  }
}

// [scores]
/// (64 heads x 64 tokens): boxes first ... end-1 of a page, as they come. Not finished before
/// wgmma_wait.
template <class Shared>
__device__ void score_boxes(WgmmaScores& score, Shared& shared, int n, int first, int end) {
  if (first == 0) {
#pragma unroll
    for (float& s : score) s = 0.0f;
  }
#pragma unroll 1
  for (int i = first; i < end; ++i) {
    shared.stages.wait(n, i);
    score_box(score, shared.queries + i * box_size, shared.stages.page(n).box(i));
  }
}
// [scores]

/// What a warp has waited for is its own part of a product; the others may still be reading the keys.
__device__ inline void clear_values_beyond(const PageBoxes& page, int rows, const WgmmaLane& lane) {
  named_barrier_sync(1, warpgroup_threads);
  page.clear_values(rows, page_tokens, lane.thread, warpgroup_threads);
  fence_proxy_async();
  named_barrier_sync(1, warpgroup_threads);
}

// ---- a rung's kernel and its row ----

/// By one thread. @param consumers that give a page back
template <class Shared>
__device__ void init_feed(Shared& shared, int consumers) {
  shared.stages.init(consumers);
  mbarrier_init(&shared.queries_full, 1);
  mbarrier_init(&shared.queries_empty, warpgroup_threads);
}

/// Of the calling block.
template <class Kernel>
__device__ int first_head() {
  constexpr int heads = Kernel::cut.tile_heads, column_blocks = Kernel::cut.column_blocks;
  return blockIdx.x / column_blocks * heads;
}

template <class Kernel>
inline constexpr int boxes_threads = Kernel::threads;

/// `Kernel` has `Shared`, `threads`, `cut`, init(shared), which makes the barriers, and roles(shared, problem, work, share,
/// fetch), in which one thread calls fetch().
template <class Kernel>
__global__ void __launch_bounds__(boxes_threads<Kernel>, 1)
    boxes_kernel(const MlaDecode problem, const SplitWork work, const __grid_constant__ TensorMap queries,
                 const __grid_constant__ TensorMap latents) {
  auto& shared = *dynamic_shared<typename Kernel::Shared>();
  const Kernel rung{};
  if (threadIdx.x == 0) {
    rung.init(shared);
    mbarrier_init_done();
  }
  rung.meet();
  const Share share = work.schedule.shares[blockIdx.y];
  constexpr int heads = Kernel::cut.tile_heads;
  rung.roles(shared, problem, work, share,
             [&] { produce(shared, problem, share, &queries, &latents, first_head<Kernel>(), heads); });
}

/// What most of these kernels have in common.
struct BoxesKernel {
  static unsigned cluster(unsigned) { return 1; }  ///< blocks of one, for so many tiles
  static __device__ void meet() { __syncthreads(); }
};

template <class Kernel>
void run_boxes(const MlaDecode& problem, const Resources& resources) {
  static_assert(sizeof(typename Kernel::Shared) <= 227 * 1024, "what a block may have");
  run_split(problem, resources, Kernel::cut, [&](dim3 grid, const SplitWork& work) {
    if (problem.pages == 0) return;  // all sequences are empty, and a map of nothing cannot be made
    const std::int64_t rows = std::int64_t(problem.batch) * problem.heads;
    const TensorMap queries = make_tensor_map(problem.queries, rows, latent_width, latent_width, Kernel::cut.tile_heads);
    const TensorMap latents = latents_map(problem);
    launch({grid, Kernel::threads, sizeof(typename Kernel::Shared), resources.stream, Kernel::cluster(grid.x)},
           boxes_kernel<Kernel>, problem, work, queries, latents);
  });
}

/// A row of the table, with what the kernel says of itself.
template <class Kernel>
Rung boxes_rung(Rung row) {
  row.capability = 90, row.only_there = true, row.rounds_weights = true;
  row.shared_bytes = sizeof(typename Kernel::Shared);
  row.workspace_bytes = split_bytes<Kernel::cut>, row.share_count = split_shares<Kernel::cut>;
  row.launch = run_boxes<Kernel>;
  return row;
}

}  // namespace kv::cuda
