#include "chapters/07_long_context/streaming_latents.hpp"

#include <cmath>

#include "chapters/07_long_context/attend_ring.hpp"

namespace kv {

StreamingLatents::StreamingLatents(std::shared_ptr<const LatentProjection> projection, Absorption absorption,
                                   const Limits& limits, const StreamingSizes& sizes)
    : projection_(std::move(projection)), absorption_(std::move(absorption)), sizes_(sizes) {
  for (index_t b = 0; b < limits.sequences; ++b)
    caches_.emplace_back(layout_of(projection_->latent_sizes()), sizes.window(), sizes.sinks, limits.capacity);
}

// [forward]
Tensor<2> StreamingLatents::forward(const Tensor<2>& x, const Batch& batch) {
  const LatentSizes& latent = projection_->latent_sizes();
  const List<index_t> at = positions(batch, *this),
                      in_cache = positions_in_cache(at, sizes_);
  const Tensor<2> latents = projection_->latents(x, at);
  const Tensor<3> queries = absorption_.absorb(projection_->queries(x, at));
  const Tensor<3> sink_queries =
      at == in_cache ? queries : absorption_.absorb(projection_->queries(x, in_cache));
  const float scale = 1.0f / std::sqrt(static_cast<float>(latent.key_width()));
  const Tensor<3> mixed = attend_ring(
      queries, sink_queries, batch, caches_, scale,
      [&](RingCache& cache, index_t first, index_t count) { cache.append(latents, first, count); });
  return projection_->output(absorption_.lift(mixed));
}
// [forward]

StateBytes StreamingLatents::state_bytes() const { return bytes_of_all(caches_); }

}  // namespace kv
