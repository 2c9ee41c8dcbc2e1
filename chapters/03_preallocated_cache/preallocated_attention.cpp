#include "chapters/03_preallocated_cache/preallocated_attention.hpp"

#include "chapters/01_uncached_attention/attend.hpp"

namespace kv {

PreallocatedAttention::PreallocatedAttention(std::shared_ptr<const HeadProjection> projection, const Limits& limits)
    : projection_(std::move(projection)) {
  for (index_t b = 0; b < limits.sequences; ++b) caches_.emplace_back(limits.capacity, projection_->sizes());
}

// [forward]
Tensor<2> PreallocatedAttention::forward(const Tensor<2>& x, const Batch& batch) {
  for (const auto& [sequence, first, T] : batch) caches_.at(sequence).require_room(T);
  const Heads heads = projection_->project(x, positions(batch, *this));
  Tensor<3> mixed = empty<3>({x.shape(0), heads.queries.shape(1), heads.values.shape(2)});
  for (const auto& [sequence, first, T] : batch) {
    HeadCache& cache = caches_.at(sequence);
    cache.append(heads.keys, heads.values, first, T);
    put_rows(mixed, first, attend(rows(heads.queries, first, T), cache.keys(), cache.values(), cache.length()));
  }
  return projection_->output(mixed);
}
// [forward]

std::size_t PreallocatedAttention::state_bytes() const {
  std::size_t bytes = 0;
  for (const HeadCache& cache : caches_) bytes += cache.bytes();
  return bytes;
}

}  // namespace kv
