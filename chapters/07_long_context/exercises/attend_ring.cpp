// An exercise, in place of chapters/07_long_context/attend_ring.cpp: see exercises.md
// Tests: 07_long_context_test
#include "chapters/07_long_context/attend_ring.hpp"

#include "chapters/01_uncached_attention/attend.hpp"

namespace kv {

Tensor<3> attend_ring(const Tensor<3>& queries, const Tensor<3>& sink_queries, const Batch& batch,
                      std::vector<RingCache>& caches, float scale, const AppendRows& append) {
  Tensor<3> mixed = empty<3>({queries.shape(0), queries.shape(1), caches.front().value_width()});
  for (const Segment& segment : batch) {
    RingCache& cache = caches.at(segment.sequence);
    const index_t end = segment.first_row + segment.rows;
    // --- yours ---
    // Rows first_row ... end-1 of queries (N,H,D) belong to this cache: append and attend, so that no row is
    // overwritten that a token still has to see. put_rows(mixed, ...) takes what comes out.
    throw std::logic_error("exercise 07 attend_ring: the pieces are yours to cut");
    // --- end ---
  }
  return mixed;
}

}  // namespace kv
