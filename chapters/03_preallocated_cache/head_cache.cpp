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

// [append]
void HeadCache::append(const Tensor<3>& keys, const Tensor<3>& values, index_t first,
                       index_t count) {
  require_room(length_, capacity(), count);
  require_fit(keys, values, *this);
  put_rows(keys_, length_, rows(keys, first, count));
  put_rows(values_, length_, rows(values, first, count));
  length_ += count;
}
// [append]

void HeadCache::truncate(index_t length) {
  require_held(length, length_);
  length_ = length;
}

void HeadCache::copy(const HeadCache& other, index_t length) {
  require_held(length, other.length_);
  put_rows(keys_, 0, rows(other.keys_, 0, length));
  put_rows(values_, 0, rows(other.values_, 0, length));
  length_ = length;
}

StateBytes HeadCache::bytes() const {
  const std::size_t token = keys_.shape(1) * (keys_.shape(2) + values_.shape(2)) * sizeof(float);
  return {.allocated = capacity() * token, .used = length_ * token};
}

}  // namespace kv
