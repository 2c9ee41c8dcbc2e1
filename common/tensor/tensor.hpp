#pragma once
/// @file
/// Tensors of the book. This is the one place that includes xtensor.
///
/// Letters for sizes, everywhere in the book: B batch, N new rows in a batch, T new tokens of one sequence,
/// S stored tokens, C capacity, M model width, H query heads, G key/value heads, D head width, F feed-forward width,
/// V vocabulary. The index is the lower-case letter: `queries(t, h, d)`.
#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#if __has_include(<xtensor/containers/xtensor.hpp>)  // xtensor 0.26 moved its headers
#include <xtensor/containers/xtensor.hpp>
#else
#include <xtensor/xtensor.hpp>
#endif

#include "common/tensor/recycler.hpp"

/// kvbook: the KV cache in LLM inference, one stage at a time.
namespace kv {

using index_t = std::size_t;

/// Sizes of each axis.
template <std::size_t N>
using Shape = std::array<index_t, N>;

/// A dense row-major f32 tensor of rank N. The rank is in the type, so the compiler checks it.
template <std::size_t N>
using Tensor = xt::xtensor<float, N, xt::layout_type::row_major, Recycled<float>>;

/// A tensor has another shape than the function needs.
struct ShapeError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// Storage without initial values: for results that are written in full.
template <std::size_t N>
Tensor<N> empty(const Shape<N>& shape) {
  return Tensor<N>::from_shape(shape);
}

/// All zeros.
template <std::size_t N>
Tensor<N> zeros(const Shape<N>& shape) {
  return Tensor<N>(shape, 0.0f);
}

/// "(4,2,8)"
std::string shape_text(std::span<const index_t> shape);

/// Throws ShapeError with `label`, the found and the expected shape unless they are equal.
void require_shape(std::string_view label, std::span<const index_t> found, std::span<const index_t> expected);

/// Throws std::out_of_range with `label` unless first ... first+count-1 are among 0 ... held-1.
void require_range(std::string_view label, index_t first, index_t count, index_t held);

/// require_shape("attend: keys (C,G,D)", keys, {C, G, D})
template <std::size_t N>
void require_shape(std::string_view label, const Tensor<N>& tensor, const Shape<N>& expected) {
  require_shape(label, std::span<const index_t>(tensor.shape()), std::span<const index_t>(expected));
}

/// Row i of a matrix.
inline std::span<float> row(Tensor<2>& x, index_t i) { return {x.data() + i * x.shape(1), x.shape(1)}; }
/// Row i of a matrix.
inline std::span<const float> row(const Tensor<2>& x, index_t i) { return {x.data() + i * x.shape(1), x.shape(1)}; }
/// Row (i,j) of a rank-3 tensor.
inline std::span<float> row(Tensor<3>& x, index_t i, index_t j) {
  return {x.data() + (i * x.shape(1) + j) * x.shape(2), x.shape(2)};
}
/// Row (i,j) of a rank-3 tensor.
inline std::span<const float> row(const Tensor<3>& x, index_t i, index_t j) {
  return {x.data() + (i * x.shape(1) + j) * x.shape(2), x.shape(2)};
}

/// A copy of rows first ... first+count-1 along the first axis.
/// @throws std::out_of_range when they are not all there
template <std::size_t N>
Tensor<N> rows(const Tensor<N>& x, index_t first, index_t count) {
  require_range("rows", first, count, x.shape(0));
  Shape<N> shape;
  std::copy(x.shape().begin(), x.shape().end(), shape.begin());
  const index_t width = x.shape(0) == 0 ? 0 : x.size() / x.shape(0);
  shape[0] = count;
  Tensor<N> out = empty(shape);
  std::copy_n(x.data() + first * width, count * width, out.data());
  return out;
}

/// Copies all rows of `part` into x, from row `first` on.
/// @throws ShapeError when the rows differ in shape, std::out_of_range when there is no room
template <std::size_t N>
void put_rows(Tensor<N>& x, index_t first, const Tensor<N>& part) {
  Shape<N> expected;
  std::copy(x.shape().begin(), x.shape().end(), expected.begin());
  expected[0] = part.shape(0);
  require_shape("put_rows", part, expected);
  require_range("put_rows: rows", first, part.shape(0), x.shape(0));
  std::copy(part.begin(), part.end(), x.data() + (part.shape(0) == 0 ? 0 : first * (part.size() / part.shape(0))));
}

/// Equally wide rows at equal distances in memory: one head of a (C,H,D) tensor, or a matrix.
/// Row s is data[s * stride] ... data[s * stride + width - 1].
struct RowsView {
  const float* data;
  index_t stride, count, width;
};

/// Rows first ... first+count-1.
inline RowsView slice(const RowsView& rows, index_t first, index_t count) {
  return {rows.data + first * rows.stride, rows.stride, count, rows.width};
}

/// The first `count` rows of head h in a (C,H,D) tensor: what head h sees of `count` tokens.
inline RowsView head_rows(const Tensor<3>& x, index_t h, index_t count) {
  return {x.data() + h * x.shape(2), x.shape(1) * x.shape(2), count, x.shape(2)};
}

}  // namespace kv
