// An exercise, in place of chapters/03_preallocated_cache/head_cache.cpp: see exercises.md
// Tests: 03_preallocated_cache_test
#include "chapters/03_preallocated_cache/head_cache.hpp"

namespace kv {
namespace {

/// Before the first row is written: a cache with new keys and old values would be worse than an error.
void require_fit(const Tensor<3>& keys, const Tensor<3>& values, const HeadCache& cache) {
  const index_t N = keys.shape(0), G = cache.keys().shape(1);
  require_shape("append: keys (N,G,D)", keys, {N, G, cache.keys().shape(2)});
  require_shape("append: values (N,G,W)", values, {N, G, cache.values().shape(2)});
}

}  // namespace

HeadCache::HeadCache(index_t capacity, const HeadSizes& sizes)
    : keys_(empty<3>({capacity, sizes.key_value_heads, sizes.key_width})),
      values_(empty<3>({capacity, sizes.key_value_heads, sizes.value_width})) {}

void HeadCache::append(const Tensor<3>& keys, const Tensor<3>& values, index_t first,
                       index_t count) {
  // --- yours ---
  // keys (N,G,D), values (N,G,W): rows first ... first+count-1 go behind the valid ones. What does not fit throws, and
  // nothing is written then.
  throw std::logic_error("exercise 03 head_cache: append is yours to write");
  // --- end ---
}

void HeadCache::truncate(index_t length) {
  // --- yours ---
  // Keeps the first `length` rows.
  throw std::logic_error("exercise 03 head_cache: truncate is yours to write");
  // --- end ---
}

void HeadCache::copy(const HeadCache& other, index_t length) {
  // --- yours ---
  // Becomes a copy of the first `length` rows of `other`.
  throw std::logic_error("exercise 03 head_cache: copy is yours to write");
  // --- end ---
}

StateBytes HeadCache::bytes() const {
  const std::size_t token = keys_.shape(1) * (keys_.shape(2) + values_.shape(2)) * sizeof(float);
  return {.allocated = capacity() * token, .used = length_ * token};
}

}  // namespace kv
