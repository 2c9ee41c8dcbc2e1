#pragma once
/// @file
/// Who reads which pages. All pages of all sequences, laid end to end, are cut into equal shares, one for each block
/// that can run at a time. So a long sequence is read by several blocks, and a block may read several short ones.
///
/// The share of a block can be computed on its own: share k of K gets pages floor(kN/K) ... floor((k+1)N/K)-1 of N. No
/// two shares differ by more than one page. Where shares are more than pages, N get one page and the others none.
/// FlashMLA's scheduler, which this follows, also charges some pages for starting a sequence; this one does not, so that
/// the balance can be stated exactly.
#include <span>
#include <vector>

#include "chapters/06_cuda_kernels/ladder/mla_decode.hpp"

namespace kv::cuda {

/// Pages first ... end-1 of a sequence.
struct PageRange {
  int first, end;
};

/// Consecutive pages, from a page of the first sequence to a page of the last. Empty: last_sequence < first_sequence.
struct Share {
  int first_sequence, first_page;  ///< inclusive
  int last_sequence, end_page;     ///< the last sequence inclusive, its pages before end_page

  /// The pages of sequence b, which has `pages`, that belong to this share.
  __host__ __device__ PageRange part(int b, int pages) const {
    return {b == first_sequence ? first_page : 0, b == last_sequence ? end_page : pages};
  }
};

/// The consecutive shares that read a sequence; none for an empty one.
struct Readers {
  int first, count;
};

/// In device memory.
struct Schedule {
  Share* shares;     ///< (share_count)
  Readers* readers;  ///< (B)
  int share_count;
};

/// Queues the kernel of one block that fills in the schedule. Lengths stay on the device: they change with every token,
/// and a captured graph must follow them.
void make_schedule(const int* lengths, int batch, const Schedule& schedule, cudaStream_t stream);

/// The same, to look at.
struct ScheduleOnHost {
  std::vector<Share> shares;
  std::vector<Readers> readers;
};
ScheduleOnHost schedule_on_host(std::span<const int> lengths, int share_count);

}  // namespace kv::cuda
