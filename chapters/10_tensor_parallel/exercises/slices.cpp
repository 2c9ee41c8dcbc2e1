// An exercise, in place of chapters/10_tensor_parallel/slices.cpp: see exercises.md
// Tests: 10_tensor_parallel_test
#include "chapters/10_tensor_parallel/slices.hpp"

namespace kv {

std::vector<Slice> split(index_t size, index_t ranks, index_t unit) {
  // --- yours ---
  // One slice for each rank, side by side, together 0 ... size-1.
  throw std::logic_error("exercise 10 slices: the parts are yours to cut");
  // --- end ---
}

std::vector<Slice> split_rows(const MatrixView& matrix, index_t ranks) {
  return split(matrix.rows, ranks, matrix.block_scales ? 128 : 32);
}

HeadSlices split_heads(const HeadSizes& sizes, index_t ranks) {
  const index_t H = sizes.query_heads, G = sizes.key_value_heads, per_group = H / G;
  if (ranks > H)
    throw UsageError("--ranks " + std::to_string(ranks) + ": the model has " + std::to_string(H) +
                     " heads, and a rank would get none; take at most " + std::to_string(H));
  // --- yours ---
  // Of each rank: the query heads, and the key/value heads that they look at.
  throw std::logic_error("exercise 10 slices: the heads are yours to split");
  // --- end ---
}

LinearView row_slice(const LinearView& map, Slice slice) {
  return {map.weight.row_slice(slice.first, slice.count), map.bias ? map.bias.from(slice.first) : VectorView()};
}

LinearView column_slice(const LinearView& map, Slice slice, bool takes_bias) {
  return {map.weight.column_slice(slice.first, slice.count), takes_bias ? map.bias : VectorView()};
}

AttentionTensors head_slice(AttentionTensors tensors, index_t ranks, index_t rank) {
  const HeadSizes sizes = head_sizes(tensors);
  const index_t D = sizes.key_width, W = sizes.value_width;
  const HeadSlices heads = split_heads(sizes, ranks);
  const Slice queries = heads.queries.at(rank), groups = heads.groups.at(rank);
  if (auto* grouped = std::get_if<GroupedTensors>(&tensors)) {
    grouped->query = row_slice(grouped->query, queries.times(D));
    grouped->key = row_slice(grouped->key, groups.times(D));
    grouped->value = row_slice(grouped->value, groups.times(W));
    grouped->sizes.query_heads = queries.count;
    grouped->sizes.key_value_heads = groups.count;
  } else {  // what is made for all heads together, latents and compressed queries, every rank makes again
    auto& latent = std::get<LatentTensors>(tensors);
    latent.query_up = row_slice(latent.query_up, queries.times(D)).weight;
    latent.latent_up = row_slice(latent.latent_up, queries.times(latent.sizes.plain_width + W)).weight;
    latent.sizes.heads = queries.count;
  }
  LinearView& output = output_matrix(tensors);
  output = column_slice(output, queries.times(W), rank == 0);
  return tensors;
}

}  // namespace kv
