#include "chapters/07_long_context/snap.hpp"

#include <numeric>

#include "chapters/01_uncached_attention/attention_weights.hpp"

namespace kv {
namespace {

/// What the queries of head g's group give to each of its first `count` rows together.
std::vector<double> votes(const Tensor<3>& weights, index_t g, index_t G, index_t count) {
  std::vector<double> sums(count, 0.0);
  const index_t T = weights.shape(0), group = weights.shape(1) / G;
  for (index_t t = 0; t < T; ++t)
    for (index_t h = g * group; h < (g + 1) * group; ++h)
      for (index_t s = 0; s < count; ++s) sums[s] += static_cast<double>(weights(t, h, s));
  return sums;
}

/// A row that stands beside one that is looked at is likely to belong to it.
std::vector<double> pooled(const std::vector<double>& votes) {
  std::vector<double> result(votes.size(), 0.0);
  for (index_t s = 0; s < votes.size(); ++s)
    for (index_t r = s - std::min(s, Snap::neighbours); r <= std::min(s + Snap::neighbours, votes.size() - 1); ++r)
      result[s] += votes[r];
  return result;
}

/// All but the `count` largest, ascending.
std::vector<index_t> all_but_largest(const std::vector<double>& values, index_t count) {
  std::vector<index_t> indices(values.size());
  std::iota(indices.begin(), indices.end(), index_t{0});
  std::ranges::stable_sort(indices, [&](index_t a, index_t b) { return values[a] > values[b]; });
  indices.erase(indices.begin(), indices.begin() + static_cast<std::ptrdiff_t>(count));
  std::ranges::sort(indices);
  return indices;
}

}  // namespace

void Snap::after(const Attended& token) {
  scale_ = token.scale;
  queries_.push_back(token.query);
  if (queries_.size() > observed()) queries_.pop_front();
}

// [policy]
void Snap::prompt_ends(const RowSource& rows) {
  const index_t S = rows.count(0), G = rows.heads(), T = queries_.size();
  if (S <= budget_) return;
  Tensor<3> last = empty<3>({T, queries_.front().shape(1), queries_.front().shape(2)});
  for (index_t t = 0; t < T; ++t) put_rows(last, t, queries_[t]);
  const Tensor<3> weights = attention_weights(last, rows, {.position = S - T}, scale_);
  for (index_t g = 0; g < G; ++g)
    victims_[g] = all_but_largest(pooled(votes(weights, g, G, S - T)), budget_ - T);
}
// [policy]

StateBytes Snap::bytes() const {
  std::size_t bytes = 0;
  for (const Tensor<3>& query : queries_) bytes += query.size() * sizeof(float);
  return {bytes, bytes};
}

}  // namespace kv
