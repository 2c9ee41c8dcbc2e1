#pragma once
/// @file
/// y = W x for the rows of a batch. A few rows (a decode step) are bound by reading W; many (a prompt) by the products.
/// So there are several kernels, chosen by the number of rows: gemv.hpp up to 8, gemm_skinny.hpp up to 64, and
/// gemm_bf16.hpp, for one matrix on a GPU library_product.hpp; f32 weights have gemv.hpp alone, eight rows at a time.
///
/// Three kinds of layers are one problem here: it falls into groups, each with rows of its own and weights of its own.
/// Dense: one group. A matrix for each head: a group per head. Experts: a group per expert that somebody has chosen.
#include <type_traits>

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
  static constexpr bool computed = false;  ///< by an earlier grid?
  int rows;
  __device__ LinearPart part(int) const { return {0, 0, rows, 0, 0}; }
  __device__ int x_row(int row) const { return row; }
};

/// All rows; head h multiplies its own columns with its own rows of W.
struct HeadGroups {
  static constexpr bool computed = false;
  int rows, outputs;     ///< of one head
  int x_step, y_step;    ///< columns from one head to the next
  __device__ LinearPart part(int h) const { return {h * outputs, 0, rows, h * x_step, h * y_step}; }
  __device__ int x_row(int row) const { return row; }
};

/// Rows sorted by expert (see route.hpp). Groups beyond the experts in use are empty.
struct ExpertGroups {
  static constexpr bool computed = true;
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

/// Rows in device memory.
template <class T>
struct Rows {
  T* data;
  int stride;
  template <class U>
    requires(!std::is_const_v<T> && std::is_same_v<U, const T>)
  operator Rows<U>() const {
    return {data, stride};
  }
};
using RowsIn = Rows<const float>;
using RowsOut = Rows<float>;

/// At most this many rows go through the kernel without tensor cores.
inline constexpr int few_rows = 8;

/// y(n,o) = sum over i of W(o,i) x(n,i), n < rows; then + b(o), where there are biases.
void linear(const Matrix& weights, const RowsIn& x, int rows, const RowsOut& y, cudaStream_t stream);
/// y(n,f) = silu(gate) * partner, where output 2f of W is the gate and 2f + 1 its partner.
void gated_linear(const Matrix& weights, const RowsIn& x, int rows, const RowsOut& y, cudaStream_t stream);
/// As linear() for every head h: outputs h*outputs ... of W, columns h*x_step ... of x, h*y_step ... of y.
void linear_heads(const Matrix& weights, int heads, const RowsIn& x, const RowsOut& y, const HeadGroups& groups,
                  cudaStream_t stream);
/// Into the ladder's number format, and out of it.
void linear_heads(const Matrix& weights, int heads, const RowsIn& x, const Rows<bf16>& y, const HeadGroups& groups,
                  cudaStream_t stream);
void linear_heads(const Matrix& weights, int heads, const Rows<const bf16>& x, const RowsOut& y, const HeadGroups& groups,
                  cudaStream_t stream);
/// As linear() for rows sorted by expert, of which at most `most_rows` belong to one, and at most `group_count`
/// experts are in use.
void linear_experts(const Matrix& weights, const RowsIn& x, const RowsOut& y, const ExpertGroups& groups, int group_count,
                    int most_rows, cudaStream_t stream);
/// And as gated_linear().
void gated_linear_experts(const Matrix& weights, const RowsIn& x, const RowsOut& y, const ExpertGroups& groups, int group_count,
                          int most_rows, cudaStream_t stream);

// ---- what the kernels take; `most_rows` is the largest number of rows of a group ----

/// Where results go, two neighbours at a time: as they are.
template <class Y>
struct Plain {
  Rows<Y> y;
  __device__ void store(int n, int o, bool both, float first, float second) const {
    Y* to = y.data + std::size_t(n) * y.stride + o;
    cuda::store(to[0], first);
    if (both) cuda::store(to[1], second);
  }
};

/// Of a gate and its partner one number: silu(gate) * partner.
struct Gated {
  RowsOut y;
  __device__ void store(int n, int o, bool, float gate, float partner) const {
    y.data[std::size_t(n) * y.stride + o / 2] = gate / (1.0f + expf(-gate)) * partner;
  }
};

/// Four neighbours, at a multiple of their size.
__device__ inline float4 load_4(const float* from) { return *reinterpret_cast<const float4*>(from); }
__device__ inline float4 load_4(const bf16* from) {
  const uint2 four = *reinterpret_cast<const uint2*>(from);
  return {__uint_as_float(four.x << 16), __uint_as_float(four.x & 0xffff0000u), __uint_as_float(four.y << 16),
          __uint_as_float(four.y & 0xffff0000u)};
}
template <class X>
__device__ bool fours_are_aligned(const X* row) {
  return reinterpret_cast<std::uintptr_t>(row) % (4 * sizeof(X)) == 0;
}

template <class W, class X, class Groups, class Store>
struct LinearProblem {
  Weights<W> weights;
  const float* bias;  ///< (weights.rows), or null
  int outputs;        ///< of one group
  Rows<const X> x;
  Groups groups;
  Store results;

  /// Output o of a part is the product with this row; beyond the last output, with the last.
  __device__ const W* weight_row(const LinearPart& part, int o) const {
    return weights.data + std::size_t(part.first_weight + min(o, outputs - 1)) * weights.stride;
  }
  /// Row n of a part; beyond the last row, the last.
  __device__ const X* x_row(const LinearPart& part, int n) const {
    return x.data + std::size_t(groups.x_row(part.first_row + min(n, part.rows - 1))) * x.stride + part.x_column;
  }
  /// Sums o, which is even, and o + 1 of row n, if there are such.
  __device__ void store(const LinearPart& part, int n, int o, float first, float second) const {
    if (n >= part.rows || o >= outputs) return;
    const bool both = o + 1 < outputs;
    if (bias) first += bias[part.first_weight + o], second += both ? bias[part.first_weight + o + 1] : 0.0f;
    results.store(part.first_row + n, part.y_column + o, both, first, second);
  }
};

}  // namespace kv::cuda
