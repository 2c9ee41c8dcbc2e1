#include "chapters/03_preallocated_cache/head_cache.hpp"

#include "common/files/error.hpp"

namespace kv {
namespace {

/// Before the first row is written: a cache with new keys and old values would be worse than an error.
void require_fit(const Tensor<3>& keys, const Tensor<3>& values, const HeadCache& cache) {
  const index_t N = keys.shape(0), G = cache.keys().shape(1);
  require_shape("append: keys (N,G,D)", keys, {N, G, cache.keys().shape(2)});
  require_shape("append: values (N,G,W)", values, {N, G, cache.values().shape(2)});
}

}  // namespace

void require_room(index_t length, index_t capacity, index_t count) {
  if (count <= capacity - length) return;
  throw Error("the cache holds " + std::to_string(length) + " of at most " + std::to_string(capacity) + " tokens; " +
              std::to_string(count) + " more do not fit: shorten the prompt or raise the capacity");
}

HeadCache::HeadCache(index_t capacity, const HeadSizes& sizes)
    : keys_(empty<3>({capacity, sizes.key_value_heads, sizes.key_width})),
      values_(empty<3>({capacity, sizes.key_value_heads, sizes.value_width})) {}

// [append]
void HeadCache::append(const Tensor<3>& keys, const Tensor<3>& values, index_t first, index_t count) {
  require_room(count);
  require_fit(keys, values, *this);
  put_rows(keys_, length_, rows(keys, first, count));
  put_rows(values_, length_, rows(values, first, count));
  length_ += count;
}
// [append]

void HeadCache::require_room(index_t count) const { kv::require_room(length_, capacity(), count); }

void HeadCache::truncate(index_t length) {
  if (length > length_)
    throw std::out_of_range("cannot truncate " + std::to_string(length_) + " tokens to " + std::to_string(length));
  length_ = length;
}

}  // namespace kv
