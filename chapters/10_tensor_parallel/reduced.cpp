#include "chapters/10_tensor_parallel/reduced.hpp"

#include "chapters/10_tensor_parallel/slices.hpp"

namespace kv {

// [reduce]
Tensor<2> ReducedAttention::forward(const Tensor<2>& x, const Batch& batch) {
  Tensor<2> y = own_->forward(x, batch);
  line_.all_reduce({y.data(), y.size()});
  return y;
}

Tensor<2> ReducedFeedForward::forward(const Tensor<2>& x) const {
  Tensor<2> y = own_->forward(x);
  line_.all_reduce({y.data(), y.size()});
  return y;
}
// [reduce]

AttentionTensors summand(const AttentionTensors& tensors, index_t ranks, index_t rank) {
  const HeadSlices heads = split_heads(head_sizes(tensors), ranks);
  const index_t W = head_sizes(tensors).value_width;
  const Slice columns{heads.queries[rank].first * W, heads.queries[rank].count * W};
  AttentionTensors own = head_slice(tensors, heads, rank);
  std::visit([&](auto& kind) { kind.output = column_slice(output_matrix(tensors), columns, rank == 0); }, own);
  return own;
}

namespace {

// [summand]
/// Rows of gate and up make some hidden numbers; the same columns of down make of these a summand
/// of every output.
SwiGluTensors summand(const SwiGluTensors& tensors, index_t ranks, index_t rank) {
  const Slice own = split_rows(tensors.gate.weight, ranks)[rank];
  return {row_slice(tensors.gate, own), row_slice(tensors.up, own),
          column_slice(tensors.down, own, rank == 0)};
}
// [summand]

}  // namespace

FeedForwardTensors summand(const FeedForwardTensors& tensors, index_t ranks, index_t rank) {
  if (const auto* dense = std::get_if<SwiGluTensors>(&tensors)) return summand(*dense, ranks, rank);
  MixtureTensors own = std::get<MixtureTensors>(tensors);
  for (SwiGluTensors& expert : own.experts) expert = summand(expert, ranks, rank);
  if (own.shared) own.shared = summand(*own.shared, ranks, rank);
  return own;
}

}  // namespace kv
