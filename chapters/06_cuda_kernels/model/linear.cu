#include "chapters/06_cuda_kernels/model/linear.hpp"

#include "chapters/06_cuda_kernels/model/gemm_bf16.hpp"
#include "chapters/06_cuda_kernels/model/gemm_f32.hpp"
#include "chapters/06_cuda_kernels/model/gemm_skinny.hpp"
#include "chapters/06_cuda_kernels/model/gemv.hpp"

namespace kv::cuda {
namespace {

template <class Groups>
void queue_many(const LinearProblem<float, Groups>& p, int groups, int most_rows, cudaStream_t stream) {
  gemm_f32::queue(p, groups, most_rows, stream);
}
template <class Groups>
void queue_many(const LinearProblem<bf16, Groups>& p, int groups, int most_rows, cudaStream_t stream) {
  if (most_rows <= gemm_skinny::most_rows) return gemm_skinny::queue(p, groups, most_rows, stream);
  gemm_bf16::queue(p, groups, most_rows, stream);
}

// [choose]
template <class Groups>
void queue(const Matrix& matrix, int outputs, const RowsIn& x, const RowsOut& y, const Groups& groups, int group_count,
           int most_rows, cudaStream_t stream) {
  if (group_count == 0 || most_rows == 0) return;
  with_format(matrix, [&]<class W>(const Weights<W>& weights) {
    const LinearProblem<W, Groups> problem{weights, outputs, x, y, groups};
    if (most_rows <= few_rows)
      gemv::queue(problem, group_count, stream);
    else
      queue_many(problem, group_count, most_rows, stream);
  });
}
// [choose]

constexpr int bias_threads = 128;

__global__ void __launch_bounds__(bias_threads) add_bias_kernel(const float* bias, int outputs, const RowsOut y) {
  const int o = blockIdx.x * bias_threads + threadIdx.x;
  if (o < outputs) y.data[std::size_t(blockIdx.y) * y.stride + o] += bias[o];
}

}  // namespace

void linear(const Matrix& weights, const RowsIn& x, int rows, const RowsOut& y, cudaStream_t stream) {
  queue(weights, weights.rows(), x, y, OneGroup{rows}, 1, rows, stream);
  if (!weights.bias() || rows == 0) return;
  const dim3 grid((weights.rows() + bias_threads - 1) / bias_threads, rows);
  launch({grid, bias_threads, 0, stream}, add_bias_kernel, weights.bias(), weights.rows(), y);
}

void linear_heads(const Matrix& weights, int heads, const RowsIn& x, const RowsOut& y, const HeadGroups& groups,
                  cudaStream_t stream) {
  queue(weights, groups.outputs, x, y, groups, heads, groups.rows, stream);
}

void linear_experts(const Matrix& weights, const RowsIn& x, const RowsOut& y, const ExpertGroups& groups, int group_count,
                    int most_rows, cudaStream_t stream) {
  queue(weights, groups.outputs, x, y, groups, group_count, most_rows, stream);
}

}  // namespace kv::cuda
