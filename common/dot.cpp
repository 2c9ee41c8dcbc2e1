#include "common/dot.hpp"

#include <functional>

#include "common/parallel.hpp"
#include "common/simd/instruction_set.hpp"

namespace kv {
namespace {

/// Work for one thread to be worth waking it: about 20 us.
constexpr index_t multiplications_per_thread = 1 << 20;

index_t grain(index_t multiplications_per_item, index_t multiple) {
  const index_t items = multiplications_per_thread / std::max<index_t>(1, multiplications_per_item) + 1;
  return (items + multiple - 1) / multiple * multiple;
}

simd::Rows slice(const RowsView& rows, index_t first, index_t last) {
  return {rows.data + first * rows.stride, rows.stride, last - first};
}

void require_width(const char* label, index_t found, index_t expected) {
  require_shape(label, std::array{found}, std::array{expected});
}

}  // namespace

void dot_rows(std::span<const float> query, const RowsView& rows, std::span<float> scores) {
  require_width("dot_rows: query (D)", query.size(), rows.width);
  require_width("dot_rows: scores (S)", scores.size(), rows.count);
  simd::kernels().dot_rows({query.data(), query.size(), 1}, slice(rows, 0, rows.count), rows.width, scores.data(),
                           scores.size());
}

void dot_rows(const RowsView& queries, const RowsView& rows, float* scores, index_t scores_stride) {
  require_width("dot_rows: width of queries (D)", queries.width, rows.width);
  const auto score = [&](index_t first, index_t last) {
    simd::kernels().dot_rows(slice(queries, 0, queries.count), slice(rows, first, last), rows.width, scores + first,
                             scores_stride);
  };
  parallel_for(rows.count, grain(queries.count * rows.width, 16), std::cref(score));
}

void weighted_sum(std::span<const float> weights, const RowsView& rows, std::span<float> out) {
  require_width("weighted_sum: weights (S)", weights.size(), rows.count);
  require_width("weighted_sum: out (D)", out.size(), rows.width);
  simd::kernels().weighted_sum({weights.data(), weights.size(), 1}, slice(rows, 0, rows.count), rows.width, out.data(),
                               out.size());
}

void weighted_sum(const RowsView& weights, const RowsView& rows, float* out, index_t out_stride) {
  require_width("weighted_sum: width of weights (S)", weights.width, rows.count);
  const auto sum = [&](index_t first, index_t last) {
    simd::kernels().weighted_sum(slice(weights, 0, weights.count), {rows.data + first, rows.stride, rows.count},
                                 last - first, out + first, out_stride);
  };
  parallel_for(rows.width, grain(weights.count * rows.count, 64), std::cref(sum));
}

}  // namespace kv
