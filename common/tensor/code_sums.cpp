#include "common/tensor/code_sums.hpp"

#include <stdexcept>

#include "common/tensor/simd/instruction_set.hpp"

namespace kv {
namespace {

simd::Rows all(const RowsView& rows) { return {rows.data, rows.stride, rows.count}; }
simd::CodeRows all(const CodesView& rows) {
  return {rows.rows.data(), rows.rows.size(), rows.width, rows.run, rows.scales, rows.scale_stride};
}

}  // namespace

void dot_codes(const RowsView& queries, const CodesView& rows, float* scores, index_t stride) {
  require_shape("dot_codes: width of queries (D)", std::array{queries.width}, std::array{rows.width});
  simd::kernels().codes.dot(all(queries), all(rows), scores, stride);
}

void add_weighted_codes(const RowsView& weights, const CodesView& rows, float* out, index_t stride) {
  require_shape("add_weighted_codes: width of weights (S)", std::array{weights.width}, std::array{index_t{rows.rows.size()}});
  if (rows.rows.size() > simd::max_code_rows) throw std::invalid_argument("add_weighted_codes: more than 128 rows");
  simd::kernels().codes.add_weighted(all(weights), all(rows), out, stride);
}

}  // namespace kv
