#pragma once
/// @file
/// Matrix products with one fixed order: every output is one FMA chain over its inputs, ascending, whatever the number
/// of rows, the blocking, the threads or the instruction set. This is what makes the stages of the book equal bit for bit.
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/tensor/dtype.hpp"
#include "common/tensor/tensor.hpp"

namespace kv {

/// Numbers somewhere in memory, one after the other, in a checkpoint's number format; perhaps misaligned. Null: none.
struct VectorView {
  const void* data = nullptr;
  DType type = DType::f32;

  VectorView() = default;
  VectorView(const float* numbers) : data(numbers) {}
  VectorView(const void* numbers, DType type) : data(numbers), type(type) {}
  float operator[](index_t i) const;  ///< widened to f32
  /// From number `first` on.
  VectorView from(index_t first) const;
  explicit operator bool() const { return data; }
  auto operator<=>(const VectorView&) const = default;
};

/// A matrix somewhere in memory, in a checkpoint's number format. Element (i,j) is data[i * row_stride + j * column_stride],
/// times block_scales[i / 128][j / 128] where block scales are given (row-major, ceil(columns / 128) per row of blocks; f8_e4m3 only),
/// times row_scales[i] where row scales are given (i8 only).
struct MatrixView {
  const void* data;  ///< perhaps misaligned: copy bytes, do not cast
  DType type;
  index_t rows, columns;
  index_t row_stride, column_stride;
  VectorView block_scales = {};
  VectorView row_scales = {};
  std::string_view where = {};  ///< names it in errors: "model.safetensors: tensor 'x'"
  index_t first_row = 0, first_column = 0;  ///< of a slice with block scales: where it begins in the matrix that they belong to
  index_t scale_columns = 0;                ///< scales in a row of blocks; 0: as many as `columns` need

  /// The same elements with the axes exchanged. @throws std::invalid_argument with scales: their axes would not be exchanged
  MatrixView transposed() const;
  /// Rows, or columns, first ... first+count-1. They may begin anywhere in a block of scales.  @throws std::out_of_range
  MatrixView row_slice(index_t first, index_t count) const;
  MatrixView column_slice(index_t first, index_t count) const;
  bool has_scales() const { return block_scales || row_scales; }
  /// Element (i,j) widened to f32, times its scale. Linear multiplies a finished sum by a row's scale, so the last bits differ.
  float at(index_t i, index_t j) const;
  /// By address and extent: two equal views show the same elements.
  auto operator<=>(const MatrixView&) const = default;
};

/// A linear map: a matrix, and perhaps numbers that are added to its outputs.
struct LinearView {
  MatrixView weight;
  VectorView bias;  ///< (rows), or none

  LinearView() = default;
  LinearView(const MatrixView& weight, const VectorView& bias = {}) : weight(weight), bias(bias) {}
  auto operator<=>(const LinearView&) const = default;
};

/// @throws Error that names the matrix when an element is not finite, or a scale is none: finite, positive and not so large
/// that it could make an element infinite; or zero where all elements are
void require_numbers(const MatrixView& matrix);

/// A view on a matrix in f32.
MatrixView view(const Tensor<2>& matrix);
/// A copy in f32.
Tensor<2> widened(const MatrixView& matrix);

/// A matrix as 8-bit integers with one scale per row.
struct RoundedMatrix {
  index_t rows, columns;
  std::vector<std::int8_t> values;  // (rows,columns)
  std::vector<float> scales;        // (rows)

  MatrixView view() const { return {values.data(), DType::i8, rows, columns, columns, 1, nullptr, scales.data()}; }
};

/// scale = max |w| / 127 of the row, value = w / scale to the nearest integer, ties to even; a row of zeros has scale 0.
/// Rows do not know of each other: a matrix may be rounded slice by slice.
/// @throws std::invalid_argument when a weight is not finite
RoundedMatrix rounded_to_i8(const MatrixView& matrix);

/// The weights of y = W x + b, kept in the checkpoint's number format and widened inside the kernel.
/// Packed once into panels of 32 outputs, [panel][input][32] (pack_panel.hpp), so that one row and five hundred rows run the same chain.
class Linear {
 public:
  /// Packs a copy; the view need not outlive it. Row scales become scales of the outputs. A slice that begins inside a block
  /// of scales is kept in f32: four times the bytes, the same product.
  /// @throws std::invalid_argument for scales that do not belong to the number format; Error as require_numbers()
  explicit Linear(const LinearView& map);
  /// The same around weights that were packed before, packed() of such a layer, and stay where they are. They are not looked at.
  /// @throws std::invalid_argument as above, and when there are not packed_bytes() of them
  Linear(const LinearView& map, std::span<const std::byte> packed, std::shared_ptr<const void> owner);
  /// Of rounded_to_i8(weight).
  static Linear quantised(const MatrixView& weight);
  ~Linear();
  Linear(Linear&&) noexcept;
  Linear& operator=(Linear&&) noexcept;

  index_t inputs() const;
  index_t outputs() const;
  DType type() const;
  /// Bytes of weights and scales.
  std::size_t bytes() const;
  /// The weights as they are packed, without scales and biases.
  std::span<const std::byte> packed() const;
  static std::size_t packed_bytes(const MatrixView& weight);

  /// y(n,o) = sum over i of W(o,i) x(n,i), and then + b(o).  @param x (N,inputs)  @return (N,outputs)  @throws ShapeError
  Tensor<2> operator()(const Tensor<2>& x) const;

  /// The same on rows at any distance: row n of x starts at x + n * x_stride, of y at y + n * y_stride. Serial when
  /// called inside parallel_for.
  void multiply(index_t row_count, const float* x, index_t x_stride, float* y, index_t y_stride) const;

 private:
  struct Panels;
  std::unique_ptr<Panels> panels_;
};

}  // namespace kv
