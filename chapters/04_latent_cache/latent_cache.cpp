#include "chapters/04_latent_cache/latent_cache.hpp"

#include "chapters/03_preallocated_cache/head_cache.hpp"

namespace kv {

LatentCache::LatentCache(index_t capacity, index_t row_width) : latents_(empty<2>({capacity, row_width})) {}

// [append]
void LatentCache::append(const Tensor<2>& latents, index_t first, index_t count) {
  require_room(count);
  put_rows(latents_, length_, rows(latents, first, count));
  length_ += count;
}
// [append]

void LatentCache::require_room(index_t count) const { kv::require_room(length_, capacity(), count); }

void LatentCache::truncate(index_t length) {
  if (length > length_)
    throw std::out_of_range("cannot truncate " + std::to_string(length_) + " tokens to " + std::to_string(length));
  length_ = length;
}

}  // namespace kv
