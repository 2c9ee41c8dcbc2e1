#pragma once
/// @file
/// What the stages of this chapter do alike: one cache for each sequence, asked for room, cut and
/// copied.
#include <vector>

#include "common/model/attention.hpp"

namespace kv {

/// @tparam Cache of one sequence: length, capacity, truncate, copy, bytes
template <class Cache>
class CachedSequences : public Attention {
 public:
  index_t length(index_t sequence) const override { return caches_.at(sequence).length(); }
  void require_room(const Batch& batch) const override {
    for (const Segment& segment : batch) {
      const Cache& cache = caches_.at(segment.sequence);
      kv::require_room(cache.length(), cache.capacity(), segment.rows);
    }
  }
  index_t truncate(index_t sequence, index_t length) override {
    return caches_.at(sequence).truncate(length);
  }
  index_t share(index_t from, index_t to, index_t length) override {
    return caches_.at(to).copy(caches_.at(from), length);
  }
  StateBytes state_bytes() const override { return bytes_of_all(caches_); }

 protected:
  std::vector<Cache> caches_;  // one for each sequence
};

}  // namespace kv
