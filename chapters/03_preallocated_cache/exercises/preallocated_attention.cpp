// An exercise, in place of chapters/03_preallocated_cache/preallocated_attention.cpp: see exercises.md
// Tests: 03_preallocated_cache_test 07_windowed_checkpoints_test
#include "chapters/03_preallocated_cache/preallocated_attention.hpp"

#include "chapters/01_uncached_attention/attend.hpp"

namespace kv {

PreallocatedAttention::PreallocatedAttention(std::shared_ptr<const HeadProjection> projection, const Limits& limits)
    : projection_(std::move(projection)) {
  for (index_t b = 0; b < limits.sequences; ++b) caches_.emplace_back(limits.capacity, projection_->sizes());
}

PreallocatedAttention::PreallocatedAttention(std::shared_ptr<const HeadProjection> projection, std::vector<HeadCache> caches)
    : projection_(std::move(projection)), caches_(std::move(caches)) {}

Tensor<2> PreallocatedAttention::forward(const Tensor<2>& x, const Batch& batch) {
  require_room(batch);
  const Heads heads = projection_->project(x, positions(batch, *this));
  Tensor<3> mixed = empty<3>({x.shape(0), heads.queries.shape(1), heads.values.shape(2)});
  for (const auto& [sequence, first, T, position, tokens] : batch) {
    // --- yours ---
    // Rows first ... first+T-1 of `heads` belong to this sequence: append them to its cache, attend to what is in it,
    // and put_rows(mixed, first, ...) what comes out, (T,H,W).
    throw std::logic_error("exercise 03 preallocated_attention: the step of a sequence is yours to write");
    // --- end ---
  }
  return projection_->output(mixed);
}

void PreallocatedAttention::require_room(const Batch& batch) const {
  // --- yours ---
  // Throws, by kv::require_room, if any segment of the batch would not fit. Nothing has been written then.
  throw std::logic_error("exercise 03 preallocated_attention: the check of a batch is yours to write");
  // --- end ---
}

index_t PreallocatedAttention::truncate(index_t sequence, index_t length) {
  caches_.at(sequence).truncate(length);
  return length;
}

index_t PreallocatedAttention::share(index_t from, index_t to, index_t length) {
  caches_.at(to).copy(caches_.at(from), length);
  return length;
}

StateBytes PreallocatedAttention::state_bytes() const { return bytes_of_all(caches_); }

}  // namespace kv
