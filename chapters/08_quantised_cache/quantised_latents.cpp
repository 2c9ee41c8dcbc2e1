#include "chapters/08_quantised_cache/quantised_latents.hpp"

#include <cmath>

#include "chapters/01_uncached_attention/attend.hpp"

namespace kv {

QuantisedLatents::QuantisedLatents(std::shared_ptr<const LatentProjection> projection,
                                   Absorption absorption, const Limits& limits,
                                   const RowFormats& formats)
    : projection_(std::move(projection)), absorption_(std::move(absorption)) {
  for (index_t b = 0; b < limits.sequences; ++b)
    caches_.emplace_back(formats, layout_of(projection_->latent_sizes()), limits.capacity);
}

// [forward]
Tensor<2> QuantisedLatents::forward(const Tensor<2>& x, const Batch& batch) {
  require_room(batch);
  const LatentSizes& sizes = projection_->latent_sizes();
  const List<index_t> at = positions(batch, *this);
  const Tensor<3> queries = absorption_.absorb(projection_->queries(x, at));
  const Tensor<2> latents = projection_->latents(x, at);
  const float scale = 1.0f / std::sqrt(static_cast<float>(sizes.key_width()));
  Tensor<3> mixed = empty<3>({x.shape(0), sizes.heads, sizes.rank});
  for (const auto& [sequence, first, T, position, tokens] : batch) {
    QuantisedCache& cache = caches_.at(sequence);
    const CausalMask mask{.position = cache.length()};
    cache.append(latents, first, T);
    put_rows(mixed, first, attend(rows(queries, first, T), cache, mask, scale));
  }
  return projection_->output(absorption_.lift(mixed));
}
// [forward]

}  // namespace kv
