#include "chapters/09_paged_cache/paged_absorbed_attention.hpp"

#include <cmath>

#include "chapters/01_uncached_attention/attend.hpp"

namespace kv {

PagedAbsorbedAttention::PagedAbsorbedAttention(std::shared_ptr<const LatentProjection> projection, Absorption absorption,
                                               std::shared_ptr<PageTable> table, std::shared_ptr<PageStore> store)
    : PagedLayer(std::move(table), std::move(store), no_window),
      projection_(std::move(projection)),
      absorption_(std::move(absorption)) {}

// [forward]
Tensor<2> PagedAbsorbedAttention::forward(const Tensor<2>& x, const Batch& batch) {
  const LatentSizes& sizes = projection_->latent_sizes();
  const List<index_t> at = positions(batch, *this);
  const Tensor<3> queries = absorption_.absorb(projection_->queries(x, at));
  const Tensor<2> latents = projection_->latents(x, at);
  append(batch, [&](index_t n, index_t page, index_t i) {
    store().put(page, i, 0, row(latents, n).first(sizes.rank), row(latents, n).subspan(sizes.rank));
  });
  const float scale = 1.0f / std::sqrt(static_cast<float>(sizes.key_width()));  // of the heads, not of the R+P
  Tensor<3> mixed = empty<3>({x.shape(0), sizes.heads, sizes.rank});
  for (const auto& [sequence, first, T, position, tokens] : batch)
    put_rows(mixed, first, attend(rows(queries, first, T), rows_of(sequence), {.position = position}, scale));
  return projection_->output(absorption_.lift(mixed));
}
// [forward]

}  // namespace kv
