#include "chapters/10_tensor_parallel/slices.hpp"

namespace kv {

std::vector<Slice> split(index_t size, index_t ranks, index_t unit) {
  const index_t units = (size + unit - 1) / unit;
  std::vector<Slice> slices;
  for (index_t r = 0, first = 0; r < ranks; ++r) {
    const index_t own = units / ranks + (r < units % ranks ? 1 : 0), end = std::min(size, first + own * unit);
    slices.push_back({first, end - first});
    first = end;
  }
  return slices;
}

std::vector<Slice> split_rows(const MatrixView& matrix, index_t ranks) {
  return split(matrix.rows, ranks, matrix.block_scales ? 128 : 32);
}

// [heads]
HeadSlices split_heads(const HeadSizes& sizes, index_t ranks) {
  const index_t H = sizes.query_heads, G = sizes.key_value_heads, per_group = H / G;
  if (ranks > H)
    throw UsageError("--ranks " + std::to_string(ranks) + ": the model has " + std::to_string(H) +
                     " heads, and a rank would get none; take at most " + std::to_string(H));
  const std::vector<Slice> groups = split(G, std::min(ranks, G));
  const std::vector<Slice> sharers = split(ranks, groups.size());
  HeadSlices slices;
  for (index_t i = 0; i < groups.size(); ++i)
    for (const Slice& own : split(groups[i].count * per_group, sharers[i].count)) {
      slices.queries.push_back({groups[i].first * per_group + own.first, own.count});
      slices.groups.push_back(groups[i]);
    }
  return slices;
}
// [heads]

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
