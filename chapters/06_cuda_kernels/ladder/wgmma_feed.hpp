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
                        const TensorMap* latents, int first_head, int heads = warpgroup_heads) {
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

/// Queues the kernels of a rung whose middle one takes the two maps, and perhaps more.  @param shape without grid and stream
template <class Kernel, class... More>
void run_boxes(const MlaDecode& problem, const Resources& resources, const Cut& cut, const Launch& shape, Kernel kernel,
               More... more) {
  run_split(problem, resources, cut, [&](dim3 grid, const SplitWork& work) {
    if (problem.pages == 0) return;  // all sequences are empty, and a map of nothing cannot be made
    const std::int64_t rows = std::int64_t(problem.batch) * problem.heads;
    const TensorMap queries = make_tensor_map(problem.queries, rows, latent_width, latent_width, cut.tile_heads);
    const TensorMap latents = latents_map(problem);
    Launch full = shape;
    full.grid = grid, full.stream = resources.stream;
    launch(full, kernel, problem, work, queries, latents, more...);
  });
}

}  // namespace kv::cuda
