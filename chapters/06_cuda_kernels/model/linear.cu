#include "chapters/06_cuda_kernels/model/linear.hpp"

#include "chapters/06_cuda_kernels/model/gemm_bf16.hpp"
#include "chapters/06_cuda_kernels/model/gemm_skinny.hpp"
#include "chapters/06_cuda_kernels/model/gemv.hpp"
#include "chapters/06_cuda_kernels/model/library_product.hpp"

namespace kv::cuda {
namespace {

// [choose]
template <class X, class Groups, class Store>
void queue(const Matrix& matrix, int outputs, const Rows<const X>& x, const Groups& groups, int group_count, int most_rows,
           const Store& results, cudaStream_t stream) {
  if (group_count == 0 || most_rows == 0) return;
  with_format(matrix, [&]<class W>(const Weights<W>& weights) {
    const LinearProblem<W, X, Groups, Store> problem{weights, matrix.bias(), outputs, x, groups, results};
    if constexpr (std::is_same_v<W, bf16>) {
      if (most_rows > gemm_skinny::most_rows) return gemm_bf16::queue(problem, group_count, most_rows, stream);
      if (most_rows > few_rows) return gemm_skinny::queue(problem, group_count, most_rows, stream);
    }
    gemv::queue(problem, group_count, stream);
  });
}
// [choose]

bool suits_library(const Matrix& weights, int rows) {
  return has_library_product() && weights.format() == Format::bf16 && !weights.bias() && rows > gemm_skinny::most_rows;
}

}  // namespace

void linear(const Matrix& weights, const RowsIn& x, int rows, const RowsOut& y, cudaStream_t stream) {
  if (suits_library(weights, rows)) return library_linear(weights, x, rows, y, stream);
  queue(weights, weights.rows(), x, OneGroup{rows}, 1, rows, Plain<float>{y}, stream);
}

void gated_linear(const Matrix& weights, const RowsIn& x, int rows, const RowsOut& y, cudaStream_t stream) {
  if (suits_library(weights, rows)) return library_gated_linear(weights, x, rows, y, stream);
  queue(weights, weights.rows(), x, OneGroup{rows}, 1, rows, Gated{y}, stream);
}

void linear_heads(const Matrix& weights, int heads, const RowsIn& x, const RowsOut& y, const HeadGroups& groups,
                  cudaStream_t stream) {
  queue(weights, groups.outputs, x, groups, heads, groups.rows, Plain<float>{y}, stream);
}
void linear_heads(const Matrix& weights, int heads, const RowsIn& x, const Rows<bf16>& y, const HeadGroups& groups,
                  cudaStream_t stream) {
  queue(weights, groups.outputs, x, groups, heads, groups.rows, Plain<bf16>{y}, stream);
}
void linear_heads(const Matrix& weights, int heads, const Rows<const bf16>& x, const RowsOut& y, const HeadGroups& groups,
                  cudaStream_t stream) {
  queue(weights, groups.outputs, x, groups, heads, groups.rows, Plain<float>{y}, stream);
}

void linear_experts(const Matrix& weights, const RowsIn& x, const RowsOut& y, const ExpertGroups& groups, int group_count,
                    int most_rows, cudaStream_t stream) {
  queue(weights, groups.outputs, x, groups, group_count, most_rows, Plain<float>{y}, stream);
}

void gated_linear_experts(const Matrix& weights, const RowsIn& x, const RowsOut& y, const ExpertGroups& groups, int group_count,
                          int most_rows, cudaStream_t stream) {
  queue(weights, groups.outputs, x, groups, group_count, most_rows, Gated{y}, stream);
}

}  // namespace kv::cuda
