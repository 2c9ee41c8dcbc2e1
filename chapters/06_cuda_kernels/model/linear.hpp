#pragma once
/// @file
/// y = W x for the rows of a batch. A few rows (a decode step) are bound by reading W; many (a prompt) by the products.
/// So there are several kernels, chosen by the number of rows: gemv.hpp up to 8, gemm_skinny.hpp up to 64, and
/// gemm_bf16.hpp; f32 weights have gemv.hpp and gemm_f32.hpp.
///
/// Three kinds of layers are one problem here: it falls into groups, each with rows of its own and weights of its own.
/// Dense: one group. A matrix for each head: a group per head. Experts: a group per expert that somebody has chosen.
#include "chapters/06_cuda_kernels/model/matrix.hpp"

namespace kv::cuda {

/// One group's share of the problem.
struct LinearPart {
  int first_weight;         ///< row of W where the group's outputs begin
  int first_row, rows;      ///< of y, and of x where rows are not gathered
  int x_column, y_column;   ///< where the group's columns begin
};

/// All rows, one matrix.
struct OneGroup {
  int rows;
  __device__ LinearPart part(int) const { return {0, 0, rows, 0, 0}; }
  __device__ int x_row(int row) const { return row; }
};

/// All rows; head h multiplies its own columns with its own rows of W.
struct HeadGroups {
  int rows, outputs;     ///< of one head
  int x_step, y_step;    ///< columns from one head to the next
  __device__ LinearPart part(int h) const { return {h * outputs, 0, rows, h * x_step, h * y_step}; }
  __device__ int x_row(int row) const { return row; }
};

/// Rows sorted by expert (see permute.hpp). Groups beyond the experts in use are empty.
struct ExpertGroups {
  const int* active;         ///< (E), the experts in use, ascending, then -1
  const int* offsets;        ///< (E+1), the first row of every expert
  const int* token_of_row;   ///< where row i of x is found; null: in row i
  int outputs;               ///< of one expert
  __device__ LinearPart part(int j) const {
    const int e = active[j];
    if (e < 0) return {0, 0, 0, 0, 0};
    return {e * outputs, offsets[e], offsets[e + 1] - offsets[e], 0, 0};
  }
  __device__ int x_row(int row) const { return token_of_row ? token_of_row[row] : row; }
};

/// f32 rows in device memory.
struct RowsIn {
  const float* data;
  int stride;
};
struct RowsOut {
  float* data;
  int stride;
};

/// At most this many rows go through the kernel without tensor cores.
inline constexpr int few_rows = 8;

/// y(n,o) = sum over i of W(o,i) x(n,i), n < rows; then + b(o), where there are biases.
void linear(const Matrix& weights, const RowsIn& x, int rows, const RowsOut& y, cudaStream_t stream);
/// The same for every head h: outputs h*outputs ... of W, columns h*x_step ... of x, h*y_step ... of y.
void linear_heads(const Matrix& weights, int heads, const RowsIn& x, const RowsOut& y, const HeadGroups& groups,
                  cudaStream_t stream);
/// The same for `rows` rows sorted by expert, of which at most `most_rows` belong to one, and at most `group_count`
/// experts are in use.
void linear_experts(const Matrix& weights, const RowsIn& x, const RowsOut& y, const ExpertGroups& groups, int group_count,
                    int most_rows, cudaStream_t stream);

// ---- what the kernels take; `most_rows` is the largest number of rows of a group ----

template <class W, class Groups>
struct LinearProblem {
  Weights<W> weights;
  int outputs;  ///< of one group
  RowsIn x;
  RowsOut y;
  Groups groups;
};

}  // namespace kv::cuda
