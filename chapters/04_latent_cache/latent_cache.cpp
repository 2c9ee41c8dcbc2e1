#include "chapters/04_latent_cache/latent_cache.hpp"

namespace kv {

LatentCache::LatentCache(index_t capacity, index_t row_width) : latents_(empty<2>({capacity, row_width})) {}

// [append]
void LatentCache::append(const Tensor<2>& latents, index_t first, index_t count) {
  require_room(length_, capacity(), count);
  put_rows(latents_, length_, rows(latents, first, count));
  length_ += count;
}
// [append]

void LatentCache::truncate(index_t length) {
  require_held(length, length_);
  length_ = length;
}

void LatentCache::copy(const LatentCache& other, index_t length) {
  require_held(length, other.length_);
  put_rows(latents_, 0, rows(other.latents_, 0, length));
  length_ = length;
}

StateBytes LatentCache::bytes() const {
  return {.allocated = latents_.size() * sizeof(float), .used = length_ * latents_.shape(1) * sizeof(float)};
}

}  // namespace kv
