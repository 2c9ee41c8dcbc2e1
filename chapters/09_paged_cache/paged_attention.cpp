#include "chapters/09_paged_cache/paged_attention.hpp"

#include <cmath>

#include "chapters/01_uncached_attention/attend.hpp"

namespace kv {

PagedAttention::PagedAttention(std::shared_ptr<const HeadProjection> projection, std::shared_ptr<PageTable> table,
                               std::shared_ptr<PageStore> store)
    : PagedLayer(std::move(table), std::move(store), projection->sizes().window), projection_(std::move(projection)) {}

// [forward]
Tensor<2> PagedAttention::forward(const Tensor<2>& x, const Batch& batch) {
  const Heads heads = projection_->project(x, positions(batch, *this));
  const HeadSizes sizes = projection_->sizes();
  append(batch, [&](index_t n, index_t page, index_t i) {
    for (index_t g = 0; g < sizes.key_value_heads; ++g)
      store().put(page, i, g, row(heads.keys, n, g), row(heads.values, n, g));
  });
  const float scale = 1.0f / std::sqrt(static_cast<float>(sizes.key_width));
  Tensor<3> mixed = empty<3>({x.shape(0), sizes.query_heads, sizes.value_width});
  for (const auto& [sequence, first, T, position, tokens] : batch)
    put_rows(mixed, first, attend(rows(heads.queries, first, T), rows_of(sequence),
                                  {.position = position, .window = sizes.window}, scale));
  return projection_->output(mixed);
}
// [forward]

}  // namespace kv
