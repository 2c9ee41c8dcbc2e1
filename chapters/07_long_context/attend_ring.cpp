#include "chapters/07_long_context/attend_ring.hpp"

#include "chapters/01_uncached_attention/attend.hpp"

namespace kv {

// [attend]
Tensor<3> attend_ring(const Tensor<3>& queries, const Tensor<3>& sink_queries, const Batch& batch,
                      std::vector<RingCache>& caches, float scale, const AppendRows& append) {
  Tensor<3> mixed = empty<3>({queries.shape(0), queries.shape(1), caches.front().value_width()});
  for (const Segment& segment : batch) {
    RingCache& cache = caches.at(segment.sequence);
    const index_t end = segment.first_row + segment.rows;
    for (index_t first = segment.first_row; first < end; first += ring_piece) {
      const index_t count = std::min(ring_piece, end - first);
      const CausalMask mask = cache.mask();
      append(cache, first, count);
      put_rows(mixed, first,
               attend(rows(queries, first, count), rows(sink_queries, first, count), cache, mask,
                      scale));
    }
  }
  return mixed;
}
// [attend]

}  // namespace kv
