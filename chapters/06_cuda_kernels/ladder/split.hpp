#pragma once
/// @file
/// What the scheduled rungs (5 and up) share: their workspace, where partial results lie in it, and the kernel that puts
/// them together.
///
/// A share may leave at most two sequences unfinished: its first, begun by the share before, and its last, continued by
/// the share after. So there are two places for partial results per share, and they depend on nothing else.
#include "chapters/06_cuda_kernels/ladder/rungs.hpp"
#include "chapters/06_cuda_kernels/ladder/sink.hpp"

namespace kv::cuda {

/// The schedule and the partial results, laid out in the caller's memory.
struct SplitWork {
  Schedule schedule;
  float* values;  ///< (2*share_count,H,512), normalised
  float* lse;     ///< (2*share_count,H)
  std::size_t bytes;

  SplitWork(const MlaDecode& problem, int share_count, void* workspace);
};

/// How a rung cuts its work into blocks.
struct Cut {
  int tile_heads;         ///< heads that a block works on
  int blocks_each;        ///< that fit on a multiprocessor
  int column_blocks = 1;  ///< that share the output's columns of a tile, each one a tile of its own

  int tiles(const MlaDecode& problem) const { return (problem.heads + tile_heads - 1) / tile_heads * column_blocks; }
  /// As many as run at a time when every tile has its own blocks.
  int shares(const MlaDecode& problem, int multiprocessors) const {
    const int blocks = multiprocessors * blocks_each;
    return blocks > tiles(problem) ? blocks / tiles(problem) : 1;
  }
};

// For a rung's row of the table.
template <Cut cut>
int split_shares(const MlaDecode& problem, int multiprocessors) {
  return cut.shares(problem, multiprocessors);
}
template <Cut cut>
std::size_t split_bytes(const MlaDecode& problem, int multiprocessors) {
  return SplitWork(problem, cut.shares(problem, multiprocessors), nullptr).bytes;
}

/// Where share k leaves what it knows of sequence b, of which it has not read all.
__device__ inline Partial partial_place(const SplitWork& work, int k, int b, int heads) {
  const std::size_t place = 2 * k + (b != work.schedule.shares[k].first_sequence);
  return {work.values + place * heads * value_width, work.lse + place * heads};
}

/// Queues the kernel that finishes what the shares have left: sequences that several of them read, and empty ones.
/// \f[ o = \sum_k \frac{e^{\ell_k}}{\sum_j e^{\ell_j}}\, o_k, \qquad \ell = \ln \sum_k e^{\ell_k} \f]
void combine(const MlaDecode& problem, const SplitWork& work, cudaStream_t stream);

/// Hands what a block knows of sequence b to `finish`'s sink: the output if it has read all pages, else its own place.
template <class Finish>
__device__ void deliver(const MlaDecode& problem, const SplitWork& work, int k, int b, PageRange part, Finish finish) {
  if (part.first == 0 && part.end == pages_of(problem.lengths[b]))
    finish(Output{problem, b});
  else
    finish(partial_place(work, k, b, problem.heads));
}

/// Queues the three kernels, or two where the schedule is there. @param attend queues the middle one, on a grid (tiles of heads, shares)
template <class Attend>
void run_split(const MlaDecode& problem, const Resources& resources, const Cut& cut, Attend attend) {
  require_fit(problem);
  if (problem.batch == 0) return;
  SplitWork work(problem, cut.shares(problem, resources.multiprocessors), resources.workspace);
  if (resources.schedule)
    work.schedule = *resources.schedule;
  else
    make_schedule(problem.lengths, problem.batch, work.schedule, resources.stream);
  attend(dim3(cut.tiles(problem), work.schedule.share_count), work);
  combine(problem, work, resources.stream);
}

}  // namespace kv::cuda
