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

namespace {

/// Rows of `width` for each head.
Slice rows_of(Slice heads, index_t width) { return {heads.first * width, heads.count * width}; }

GroupedTensors head_slice(GroupedTensors tensors, Slice queries, Slice groups) {
  const index_t D = tensors.sizes.key_width, W = tensors.sizes.value_width;
  tensors.query = row_slice(tensors.query, rows_of(queries, D));
  tensors.key = row_slice(tensors.key, rows_of(groups, D));
  tensors.value = row_slice(tensors.value, rows_of(groups, W));
  tensors.output = {};
  tensors.sizes.query_heads = queries.count;
  tensors.sizes.key_value_heads = groups.count;
  return tensors;
}

/// What is made for all heads together, latents and compressed queries, every rank makes again.
LatentTensors head_slice(LatentTensors tensors, Slice heads) {
  const Slice up = rows_of(heads, tensors.sizes.plain_width + tensors.sizes.value_width);
  const Slice queries = rows_of(heads, tensors.sizes.key_width());
  tensors.query_up = tensors.query_up.row_slice(queries.first, queries.count);
  tensors.latent_up = tensors.latent_up.row_slice(up.first, up.count);
  tensors.output = {};
  tensors.sizes.heads = heads.count;
  return tensors;
}

}  // namespace

AttentionTensors head_slice(const AttentionTensors& tensors, const HeadSlices& heads, index_t rank) {
  const Slice queries = heads.queries.at(rank), groups = heads.groups.at(rank);
  if (const auto* grouped = std::get_if<GroupedTensors>(&tensors)) return head_slice(*grouped, queries, groups);
  return head_slice(std::get<LatentTensors>(tensors), queries);
}

HeadSizes head_sizes(const AttentionTensors& tensors) {
  if (const auto* grouped = std::get_if<GroupedTensors>(&tensors)) return grouped->sizes;
  return std::get<LatentTensors>(tensors).sizes.expanded();
}

const LinearView& output_matrix(const AttentionTensors& tensors) {
  return std::visit([](const auto& kind) -> const LinearView& { return kind.output; }, tensors);
}

}  // namespace kv
