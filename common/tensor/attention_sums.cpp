#include "common/tensor/attention_sums.hpp"

#include <algorithm>

#include "common/tensor/simd/instruction_set.hpp"

namespace kv {
namespace {

simd::Rows all(const RowsView& rows) { return {rows.data, rows.stride, rows.count}; }

void require_width(const char* label, index_t found, index_t expected) {
  require_shape(label, std::array{found}, std::array{expected});
}

}  // namespace

void dot_rows(std::span<const float> query, const RowsView& rows, std::span<float> scores) {
  require_width("dot_rows: query (D)", query.size(), rows.width);
  require_width("dot_rows: scores (S)", scores.size(), rows.count);
  dot_rows({query.data(), query.size(), 1, query.size()}, rows, scores.data(), scores.size());
}

void dot_rows(const RowsView& queries, const RowsView& rows, float* scores, index_t scores_stride) {
  require_width("dot_rows: width of queries (D)", queries.width, rows.width);
  simd::kernels().dot_rows(all(queries), all(rows), rows.width, scores, scores_stride);
}

void add_weighted_rows(const RowsView& weights, const RowsView& rows, float* out, index_t out_stride) {
  // Wide rows are read by many passes: attention's next 128 are fetched meanwhile. Of narrow ones, many heads fill the second cache.
  const index_t ahead = std::min(rows.count, rows.width / 4);
  add_weighted_rows(weights, rows, {rows.data + ahead * rows.stride, rows.width * sizeof(float), rows.stride * sizeof(float)}, out,
                    out_stride);
}

void add_weighted_rows(const RowsView& weights, const RowsView& rows, const NextRows& next, float* out, index_t out_stride) {
  require_width("add_weighted_rows: width of weights (S)", weights.width, rows.count);
  simd::kernels().add_weighted_rows(all(weights), all(rows), rows.width, {next.data, next.bytes, next.stride}, out, out_stride);
}

void scale(std::span<float> x, float factor) { simd::kernels().scale(x.data(), x.size(), factor); }

}  // namespace kv
