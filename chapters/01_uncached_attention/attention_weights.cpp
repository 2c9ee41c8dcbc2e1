#include "chapters/01_uncached_attention/attention_weights.hpp"

#include "common/tensor/softmax.hpp"

namespace kv {
namespace {

/// Appends the scores of one query with rows first ... end-1.
void score(std::span<const float> query, const RowSource& rows, index_t g, index_t first, index_t end,
           std::vector<float>& scores) {
  for (index_t s = first; s < end;) {
    const index_t count = std::min(end, s / block_rows * block_rows + block_rows) - s;
    scores.resize(scores.size() + count);
    const RowsView one{query.data(), query.size(), 1, query.size()};
    rows.block(g, s, count).scores(one, 0, count, &scores[scores.size() - count], count);
    s += count;
  }
}

index_t most_rows(const RowSource& rows) {
  index_t most = 0;
  for (index_t g = 0; g < rows.heads(); ++g) most = std::max(most, rows.count(g));
  return most;
}

}  // namespace

Tensor<3> attention_weights(const Tensor<3>& queries, const Tensor<3>& sink_queries, const RowSource& rows,
                            const CausalMask& mask, float scale) {
  const index_t T = queries.shape(0), H = queries.shape(1);
  Tensor<3> weights = zeros<3>({T, H, most_rows(rows)});
  std::vector<float> scores;
  for (index_t t = 0; t < T; ++t)
    for (index_t h = 0; h < H; ++h) {
      const index_t g = h * rows.heads() / H;
      const auto [first, end, sinks] = mask(t);
      scores.clear();
      score(row(sink_queries, t, h), rows, g, 0, sinks, scores);
      score(row(queries, t, h), rows, g, first, std::min(end, rows.count(g)), scores);
      for (float& x : scores) x *= scale;
      softmax(scores);
      const std::span<const float> seen(scores);
      std::ranges::copy(seen.first(sinks), row(weights, t, h).begin());
      std::ranges::copy(seen.subspan(sinks), row(weights, t, h).subspan(first).begin());
    }
  return weights;
}

Tensor<3> attention_weights(const Tensor<3>& queries, const RowSource& rows, const CausalMask& mask, float scale) {
  return attention_weights(queries, queries, rows, mask, scale);
}

}  // namespace kv
