// An exercise, in place of chapters/02_concat_cache/concat_attention.cpp: see exercises.md
// Tests: 02_concat_cache_test 07_windowed_checkpoints_test
#include "chapters/02_concat_cache/concat_attention.hpp"

#include "chapters/01_uncached_attention/attend.hpp"

namespace kv {
namespace {

/// A new tensor: all rows of `old`, then rows first ... first+count-1 of `fresh`.
Tensor<3> concatenate(const Tensor<3>& old, const Tensor<3>& fresh, index_t first, index_t count) {
  // --- yours ---
  // old (S,G,D), fresh (N,G,D): a tensor (S+count,G,D).
  throw std::logic_error("exercise 02 concat_attention: the longer tensor is yours to make");
  // --- end ---
}

}  // namespace

ConcatAttention::ConcatAttention(std::shared_ptr<const HeadProjection> projection, const Limits& limits)
    : projection_(std::move(projection)) {
  const HeadSizes sizes = projection_->sizes();
  for (index_t b = 0; b < limits.sequences; ++b)
    sequences_.push_back({empty<3>({0, sizes.key_value_heads, sizes.key_width}),
                          empty<3>({0, sizes.key_value_heads, sizes.value_width})});
}

Tensor<2> ConcatAttention::forward(const Tensor<2>& x, const Batch& batch) {
  const Heads heads = projection_->project(x, positions(batch, *this));
  Tensor<3> mixed = empty<3>({x.shape(0), heads.queries.shape(1), heads.values.shape(2)});
  for (const auto& [sequence, first, T, position, tokens] : batch) {
    // --- yours ---
    // Rows first ... first+T-1 of `heads` belong to this sequence. Keep its keys and values, then attend to all of
    // them; put_rows(mixed, first, ...) takes what comes out, (T,H,W). Window: projection_->sizes().window.
    throw std::logic_error("exercise 02 concat_attention: keeping and attending is yours to write");
    // --- end ---
  }
  return projection_->output(mixed);
}

index_t ConcatAttention::length(index_t sequence) const { return sequences_.at(sequence).keys.shape(0); }

index_t ConcatAttention::truncate(index_t sequence, index_t length) { return share(sequence, sequence, length); }

index_t ConcatAttention::share(index_t from, index_t to, index_t length) {
  const auto& [keys, values] = sequences_.at(from);
  require_held(length, keys.shape(0));
  sequences_.at(to) = {rows(keys, 0, length), rows(values, 0, length)};
  return length;
}

StateBytes ConcatAttention::state_bytes() const {
  std::size_t bytes = 0;
  for (const auto& [keys, values] : sequences_) bytes += (keys.size() + values.size()) * sizeof(float);
  return {.allocated = bytes, .used = bytes};
}

}  // namespace kv
