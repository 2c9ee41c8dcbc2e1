#include "chapters/01_uncached_attention/uncached_attention.hpp"

#include "chapters/01_uncached_attention/attend.hpp"

namespace kv {

UncachedAttention::UncachedAttention(std::shared_ptr<const HeadProjection> projection, const Limits&)
    : projection_(std::move(projection)) {}

// [forward]
Tensor<2> UncachedAttention::forward(const Tensor<2>& x, const Batch& batch) {
  const Heads heads = projection_->project(x, positions(batch, *this));
  Tensor<3> mixed = empty<3>({x.shape(0), heads.queries.shape(1), heads.values.shape(2)});
  for (const auto& [sequence, first, S, position, tokens] : batch)
    put_rows(mixed, first,
             attend(rows(heads.queries, first, S), rows(heads.keys, first, S),
                    rows(heads.values, first, S), S, projection_->sizes().window));
  return projection_->output(mixed);
}
// [forward]

index_t UncachedAttention::truncate(index_t, index_t length) {
  require_held(length, 0);
  return 0;
}

}  // namespace kv
