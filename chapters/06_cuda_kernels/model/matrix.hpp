#pragma once
/// @file
/// A linear layer's weights in device memory: f32 and bf16 as they are in the checkpoint, other formats widened to f32. And its
/// biases, in f32.
#include <initializer_list>
#include <span>

#include "common/cuda/bfloat16.hpp"
#include "common/cuda/memory.hpp"
#include "common/tensor/linear.hpp"

namespace kv::cuda {

enum class Format { f32, bf16 };

/// What a kernel sees of a matrix: row-major, every row `stride` elements after the one before. A row begins at a
/// multiple of 16 bytes, and what lies between its columns and the next row is zero, so that rows can be read 16 bytes
/// at a time whatever their width.
template <class W>
struct Weights {
  const W* data;
  int rows, columns, stride;
};

/// Elements from one row to the next.
inline int padded_width(index_t columns) { return static_cast<int>((columns + 7) / 8 * 8); }

/// Owns a matrix on the device.
class Matrix {
 public:
  Matrix() = default;
  /// Uninitialised, except for the padding.
  Matrix(Format format, index_t rows, index_t columns);
  /// Copies matrices of equal width, one below the other: several layers with one input become one. bf16 when all are,
  /// else f32: f16 and fp8 cost more memory here than in the checkpoint, but no digit.
  /// @throws ShapeError, and Error for a weight or a scale that is no finite number
  explicit Matrix(std::span<const LinearView> parts);
  explicit Matrix(std::initializer_list<LinearView> parts) : Matrix(std::span(parts.begin(), parts.size())) {}

  Format format() const { return format_; }
  int rows() const { return rows_; }
  int columns() const { return columns_; }
  int stride() const { return padded_width(columns_); }
  std::size_t bytes() const { return bytes_.size(); }
  void* data() { return bytes_.data(); }
  /// (rows), or null: nothing is added to the outputs.
  const float* bias() const { return bias_.size() == 0 ? nullptr : bias_.data(); }

  template <class W>
  Weights<W> view() const {
    return {reinterpret_cast<const W*>(bytes_.data()), rows_, columns_, stride()};
  }

 private:
  Format format_ = Format::f32;
  int rows_ = 0, columns_ = 0;
  Buffer<std::byte> bytes_;
  Buffer<float> bias_;
};

/// Calls f with the matrix as the kernels see it.
template <class F>
void with_format(const Matrix& matrix, F&& f) {
  if (matrix.format() == Format::f32)
    f(matrix.view<float>());
  else
    f(matrix.view<bf16>());
}

}  // namespace kv::cuda
