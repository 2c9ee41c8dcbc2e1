#include "common/tensor/linear.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "common/files/error.hpp"
#include "common/tensor/bf16_product.hpp"
#include "common/tensor/input_format.hpp"
#include "common/tensor/integer_product.hpp"
#include "common/tensor/memory.hpp"
#include "common/tensor/pack_panel.hpp"
#include "common/tensor/parallel.hpp"
#include "common/tensor/simd/instruction_set.hpp"

namespace kv {
namespace {

using simd::panel_width;
using simd::scale_block;

/// Rows whose share of a block of inputs stays in the second cache.
constexpr index_t row_chunk = 192;

/// At least twice any instruction set's direct_rows.
constexpr index_t max_few_rows = 32;

index_t blocks(index_t count, index_t size) { return (count + size - 1) / size; }

const std::byte* element(const MatrixView& matrix, index_t i, index_t j) {
  return static_cast<const std::byte*>(matrix.data) +
         (i * matrix.row_stride + j * matrix.column_stride) * element_size(matrix.type);
}

template <class T>
T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

/// Calls f with a function that widens the element at an address: the format is looked at once, not for every element.
template <class F>
void with_widening(DType type, F f) {
  switch (type) {
    case DType::f32: return f([](const std::byte* p) { return load<float>(p); });
    case DType::bf16: return f([](const std::byte* p) { return from_bf16(load<std::uint16_t>(p)); });
    case DType::f16: return f([](const std::byte* p) { return from_f16(load<std::uint16_t>(p)); });
    case DType::f8_e4m3: return f([](const std::byte* p) { return from_f8_e4m3(load<std::uint8_t>(p)); });
    case DType::i8: return f([](const std::byte* p) { return static_cast<float>(load<std::int8_t>(p)); });
  }
  throw std::invalid_argument("linear: unknown dtype");
}

index_t scales_per_row(const MatrixView& matrix) {
  return matrix.scale_columns != 0 ? matrix.scale_columns : blocks(matrix.columns, scale_block);
}

float block_scale(const MatrixView& matrix, index_t i, index_t j) {
  return matrix.block_scales[(i + matrix.first_row) / scale_block * scales_per_row(matrix) + (j + matrix.first_column) / scale_block];
}

/// From here to where the next block of scales begins.
index_t to_next_block(index_t at) { return scale_block - at % scale_block; }

/// Whether the kernels, which have one scale for 32 outputs and 128 inputs, cannot follow the blocks of a slice.
bool cuts_blocks(const MatrixView& matrix) {
  return matrix.block_scales && (matrix.first_row % panel_width != 0 || matrix.first_column % scale_block != 0);
}

void widen_row(const MatrixView& matrix, index_t i, std::span<float> out) {
  with_widening(matrix.type, [&](auto widen) {
    for (index_t j = 0; j < matrix.columns; ++j) out[j] = widen(element(matrix, i, j));
  });
  if (matrix.block_scales)
    for (index_t j = 0; j < matrix.columns; ++j) out[j] *= block_scale(matrix, i, j);
  if (matrix.row_scales)
    for (index_t j = 0; j < matrix.columns; ++j) out[j] *= matrix.row_scales[i];
}

/// Whether one of the elements that fill these bytes is infinite or NaN: its exponent is all ones (e4m3: all but its sign).
/// Eight bytes at a time, as lanes: adding 1 at the foot of such an exponent, and only of such, carries into the sign.
bool has_non_finite(const std::byte* data, std::size_t bytes, DType type) {
  if (type == DType::i8) return false;
  const std::uint64_t foot = type == DType::f32 ? 0x800000 : type == DType::bf16 ? 0x80 : type == DType::f16 ? 0x400 : 1;
  const index_t bits = 8 * element_size(type);
  const std::uint64_t sign = std::uint64_t{1} << (bits - 1), lanes = ~std::uint64_t{0} / (2 * sign - 1);
  const std::uint64_t exponents = lanes * (sign - foot), feet = lanes * foot;
  std::uint64_t found = 0, block;
  for (; bytes >= sizeof block; data += sizeof block, bytes -= sizeof block)
    found |= (load<std::uint64_t>(data) & exponents) + feet;
  block = 0;
  if (bytes > 0) std::memcpy(&block, data, bytes);  // a matrix without columns may have no data
  return ((found | ((block & exponents) + feet)) & lanes * sign) != 0;
}

/// One scale, and that of rows first_row ... and columns first_column ... that it belongs to.
void require_scale(const MatrixView& matrix, float scale, index_t first_row, index_t row_count, index_t first_column, index_t column_count) {
  const float largest = matrix.type == DType::i8 ? 128.0f : 448.0f;
  MatrixView bare = matrix;
  bare.block_scales = bare.row_scales = {};
  bool fits = scale > 0.0f && std::isfinite(scale * largest);
  if (scale == 0.0f) {
    fits = true;
    for (index_t i = first_row; i < std::min(matrix.rows, first_row + row_count); ++i)
      for (index_t j = first_column; j < std::min(matrix.columns, first_column + column_count); ++j) fits = fits && bare.at(i, j) == 0.0f;
  }
  if (!fits)
    throw Error(std::string(matrix.where) + " has the scale " + std::to_string(scale) + " in row " + std::to_string(first_row) +
                "; a scale is finite and positive, or zero where all its weights are");
}

/// require_numbers() of rows first ... last-1.
void require_rows(const MatrixView& matrix, index_t first, index_t last) {
  for (index_t i = first; i < last; ++i) {
    bool bad = false;
    if (matrix.column_stride == 1)
      bad = has_non_finite(element(matrix, i, 0), matrix.columns * element_size(matrix.type), matrix.type);
    else
      for (index_t j = 0; j < matrix.columns; ++j) bad = bad || !std::isfinite(matrix.at(i, j));
    if (bad)
      throw Error(std::string(matrix.where) + " has a weight in row " + std::to_string(i) +
                  " that is not finite; the file is damaged: download it again");
    if (matrix.row_scales) require_scale(matrix, matrix.row_scales[i], i, 1, 0, matrix.columns);
    if (!matrix.block_scales || (i != 0 && (i + matrix.first_row) % scale_block != 0)) continue;
    for (index_t j = 0, next; j < matrix.columns; j = next) {
      next = j + to_next_block(j + matrix.first_column);
      require_scale(matrix, block_scale(matrix, i, j), i, to_next_block(i + matrix.first_row), j, next - j);
    }
  }
}

/// Sums that the tile after this one goes on with.
void prefetch_sums(const float* sums) {
  __builtin_prefetch(sums);
  __builtin_prefetch(sums + 15);
}

const simd::FormatKernels& format_kernels(const simd::Kernels& kernels, DType type) {
  switch (type) {
    case DType::f32: return kernels.f32;
    case DType::bf16: return kernels.bf16;
    case DType::f16: return kernels.f16;
    case DType::f8_e4m3: return kernels.f8_e4m3;
    case DType::i8: return kernels.i8;
  }
  throw std::invalid_argument("linear: unknown dtype");
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------------------

float VectorView::operator[](index_t i) const {
  float value = 0;
  const std::byte* const p = static_cast<const std::byte*>(data) + i * element_size(type);
  with_widening(type, [&](auto widen) { value = widen(p); });
  return value;
}

VectorView VectorView::from(index_t first) const {
  return {static_cast<const std::byte*>(data) + first * element_size(type), type};
}

MatrixView MatrixView::transposed() const {
  if (block_scales) throw std::invalid_argument("MatrixView::transposed: the matrix has block scales");
  if (row_scales) throw std::invalid_argument("MatrixView::transposed: the matrix has row scales");
  return {data, type, columns, rows, column_stride, row_stride, {}, {}, where};
}

MatrixView MatrixView::row_slice(index_t first, index_t count) const {
  require_range("MatrixView::row_slice: rows", first, count, rows);
  MatrixView slice = *this;
  slice.data = element(*this, first, 0);
  slice.rows = count;
  if (row_scales) slice.row_scales = row_scales.from(first);
  if (block_scales) slice.first_row += first;
  return slice;
}

MatrixView MatrixView::column_slice(index_t first, index_t count) const {
  require_range("MatrixView::column_slice: columns", first, count, columns);
  MatrixView slice = *this;
  slice.data = element(*this, 0, first);
  slice.columns = count;
  if (block_scales) slice.scale_columns = scales_per_row(*this);
  if (block_scales) slice.first_column += first;
  return slice;
}

float MatrixView::at(index_t i, index_t j) const {
  float value = 0;
  with_widening(type, [&](auto widen) { value = widen(element(*this, i, j)); });
  if (block_scales) value *= block_scale(*this, i, j);
  if (row_scales) value *= row_scales[i];
  return value;
}

MatrixView view(const Tensor<2>& matrix) {
  return {matrix.data(), DType::f32, matrix.shape(0), matrix.shape(1), matrix.shape(1), 1};
}

void require_numbers(const MatrixView& matrix) {
  const auto check = [&](index_t first, index_t last) { require_rows(matrix, first, last); };
  parallel_for(matrix.rows, 1 + (1 << 16) / (matrix.columns + 1), check);
}

RoundedMatrix rounded_to_i8(const MatrixView& matrix) {
  const index_t rows = matrix.rows, columns = matrix.columns;
  RoundedMatrix rounded{rows, columns, std::vector<std::int8_t>(rows * columns), std::vector<float>(rows)};
  const auto round = [&](index_t first, index_t last) {
    std::vector<float> values(columns);
    for (index_t i = first; i < last; ++i) {
      widen_row(matrix, i, values);
      float largest = 0;
      for (const float value : values) {
        if (!std::isfinite(value)) throw std::invalid_argument("rounded_to_i8: a weight is not finite");
        largest = std::max(largest, std::abs(value));
      }
      const float scale = rounded.scales[i] = largest / 127;
      for (index_t j = 0; j < columns && scale != 0; ++j)
        rounded.values[i * columns + j] = static_cast<std::int8_t>(std::clamp(std::nearbyint(values[j] / scale), -127.f, 127.f));
    }
  };
  parallel_for(rows, 32, round);
  return rounded;
}

Tensor<2> widened(const MatrixView& matrix) {
  Tensor<2> result = empty<2>({matrix.rows, matrix.columns});
  for (index_t i = 0; i < matrix.rows; ++i)
    for (index_t j = 0; j < matrix.columns; ++j) result(i, j) = matrix.at(i, j);
  return result;
}

// ---------------------------------------------------------------------------------------------------------------------

/// Packed weights. Panel p holds outputs 32 p ... 32 p + 31, the last one filled up with zeros.
struct Linear::Panels {
  DType type;
  index_t inputs, outputs;
  Memory own;                               // or none
  std::shared_ptr<const void> owner = {};   // of data that is not our own
  const std::byte* data = own.data();
  std::vector<float> scales = {};           // e4m3: [panel][block of inputs]; i8: [output]
  std::vector<float> biases = {};           // [output], or none

  Panels(DType type, index_t inputs, index_t outputs)
      : type(type), inputs(inputs), outputs(outputs), own(count() * panel_bytes()) {}
  Panels(const MatrixView& weight, const std::byte* packed, std::shared_ptr<const void> owner)
      : type(weight.type), inputs(weight.columns), outputs(weight.rows), owner(std::move(owner)), data(packed) {}
  /// @throws std::invalid_argument for scales that do not belong to the number format
  void take_scales(const MatrixView& weight, const VectorView& bias);

  index_t count() const { return blocks(outputs, panel_width); }
  index_t complete() const { return outputs / panel_width; }
  index_t stored_inputs() const { return stored_panel_inputs(type, inputs); }
  std::size_t panel_bytes() const { return stored_inputs() * panel_width * element_size(type); }
  const std::byte* panel(index_t p) const { return data + p * panel_bytes(); }
  simd::Panels from(index_t p, index_t panel_count) const {
    const index_t stride = type == DType::f8_e4m3 ? blocks(inputs, scale_block) : 0;
    return {panel(p), panel_count, inputs, stored_inputs(), scales.data() + p * stride, stride};
  }
  /// Ends the chains of outputs first ... last-1. i8: times the output's scale, as integers are exact in f32. Then the bias.
  void finish(index_t first, index_t last, index_t row_count, float* y, index_t y_stride) const {
    if (type == DType::i8)
      for (index_t n = 0; n < row_count; ++n)
        for (index_t o = first; o < last; ++o) y[n * y_stride + o] *= scales[o];
    if (!biases.empty())
      for (index_t n = 0; n < row_count; ++n)
        for (index_t o = first; o < last; ++o) y[n * y_stride + o] += biases[o];
  }

  void multiply_taken(InputFormat format, index_t row_count, const float* x, index_t x_stride, float* y, index_t y_stride) const;
  void multiply_few(index_t row_count, const float* x, index_t x_stride, float* y, index_t y_stride) const;
  void multiply_many(index_t row_count, const float* x, index_t x_stride, float* y, index_t y_stride) const;

 private:
  /// Rows of a prompt that are multiplied together, in blocks of nearly equal heights.
  struct Chunk {
    index_t rows, blocks;
    float* interleaved;
    float* y;
    index_t y_stride;

    index_t begin(index_t block) const { return rows * block / blocks; }
    index_t height(index_t block) const { return begin(block + 1) - begin(block); }
  };
  /// Where the sums of a panel stand: row n at data + n * stride.
  struct Sums {
    float* data;
    index_t stride;
  };
  void interleave(const float* x, index_t x_stride, const Chunk& chunk) const;
  void multiply_chunk(const Chunk& chunk) const;
  void multiply_panels(index_t first, index_t last, const Chunk& chunk, index_t b0, index_t b1) const;
  void multiply_block(index_t p, index_t k, const Chunk& chunk, index_t b0, index_t b1, const Sums& sums, const std::byte* next,
                      float* widened) const;
};

void Linear::Panels::take_scales(const MatrixView& weight, const VectorView& bias) {
  if (weight.block_scales && weight.type != DType::f8_e4m3)
    throw std::invalid_argument("Linear: block scales belong to f8_e4m3, not to " + std::string(name(weight.type)));
  if (weight.row_scales && weight.type != DType::i8)
    throw std::invalid_argument("Linear: row scales belong to i8, not to " + std::string(name(weight.type)));
  const index_t input_blocks = blocks(inputs, scale_block);
  if (type == DType::f8_e4m3) scales.assign(count() * input_blocks, 1.0f);
  if (type == DType::i8) scales.assign(outputs, 1.0f);
  for (index_t o = 0; weight.row_scales && o < outputs; ++o) scales[o] = weight.row_scales[o];
  for (index_t i = 0; weight.block_scales && i < scales.size(); ++i)
    scales[i] = block_scale(weight, i / input_blocks * panel_width, i % input_blocks * scale_block);
  for (index_t o = 0; bias && o < outputs; ++o) biases.push_back(bias[o]);
}

Linear::Linear(const LinearView& map)
    : panels_(std::make_unique<Panels>(cuts_blocks(map.weight) ? DType::f32 : map.weight.type, map.weight.columns, map.weight.rows)) {
  if (cuts_blocks(map.weight)) require_numbers(map.weight);
  const Tensor<2> wide = cuts_blocks(map.weight) ? widened(map.weight) : Tensor<2>();
  const MatrixView weight = cuts_blocks(map.weight) ? view(wide) : map.weight;
  panels_->take_scales(weight, map.bias);
  format_of_layer(input_format(), panels_->type, panels_->inputs, weight.where);
  const auto pack = [&](index_t first, index_t last) {
    for (index_t p = first; p < last; ++p) {
      // Looked at while they come into the second cache, and packed from there.
      require_rows(weight, p * panel_width, std::min(weight.rows, (p + 1) * panel_width));
      pack_panel(weight, p, panels_->own.data() + p * panels_->panel_bytes());
    }
  };
  parallel_for(panels_->count(), 4, pack);
}

Linear::Linear(const LinearView& map, std::span<const std::byte> packed, std::shared_ptr<const void> owner)
    : panels_(std::make_unique<Panels>(map.weight, packed.data(), std::move(owner))) {
  if (cuts_blocks(map.weight) || packed.size() != packed_bytes(map.weight))
    throw std::invalid_argument("Linear: these are not the packed weights of such a matrix");
  panels_->take_scales(map.weight, map.bias);
  format_of_layer(input_format(), panels_->type, panels_->inputs, map.weight.where);
}

std::size_t Linear::packed_bytes(const MatrixView& weight) {
  return blocks(weight.rows, panel_width) * stored_panel_inputs(weight.type, weight.columns) * panel_width * element_size(weight.type);
}

Linear Linear::quantised(const MatrixView& weight) { return Linear(rounded_to_i8(weight).view()); }

Linear::~Linear() = default;
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;

index_t Linear::inputs() const { return panels_->inputs; }
index_t Linear::outputs() const { return panels_->outputs; }
DType Linear::type() const { return panels_->type; }
std::span<const std::byte> Linear::packed() const { return {panels_->data, panels_->count() * panels_->panel_bytes()}; }
std::size_t Linear::bytes() const { return packed().size() + panels_->scales.size() * sizeof(float); }

Tensor<2> Linear::operator()(const Tensor<2>& x) const {
  const index_t N = x.shape(0);
  require_shape("linear: x (N,inputs)", x, {N, inputs()});
  Tensor<2> y = empty<2>({N, outputs()});
  multiply(N, x.data(), inputs(), y.data(), outputs());
  return y;
}

void Linear::multiply(index_t row_count, const float* x, index_t x_stride, float* y, index_t y_stride) const {
  if (row_count == 0 || panels_->outputs == 0) return;
  const InputFormat format = format_of_layer(input_format(), panels_->type, panels_->inputs, {});
  if (format != InputFormat::f32) return panels_->multiply_taken(format, row_count, x, x_stride, y, y_stride);
  // Narrow formats are widened in the registers as long as that is cheaper than a copy in f32: twice, or once for e4m3.
  const bool twice = panels_->type != DType::f32 && panels_->type != DType::f8_e4m3;
  const index_t few = simd::kernels().direct_rows * (twice ? 2 : 1);
  if (row_count <= few)
    panels_->multiply_few(row_count, x, x_stride, y, y_stride);
  else
    panels_->multiply_many(row_count, x, x_stride, y, y_stride);
}

void Linear::Panels::multiply_taken(InputFormat format, index_t row_count, const float* x, index_t x_stride, float* y,
                                    index_t y_stride) const {
  const auto end = [this](index_t first, index_t last, index_t rows, float* from, index_t stride) {
    finish(first, last, rows, from, stride);
  };
  const auto multiply = integers(format) ? multiply_in_integers : multiply_in_bf16;
  multiply({data, inputs, outputs, std::cref(end)}, format, row_count, x, x_stride, y, y_stride);
}

/// A decode step: weights are read from memory once and widened in the registers.
void Linear::Panels::multiply_few(index_t row_count, const float* x, index_t x_stride, float* y, index_t y_stride) const {
  const simd::Kernels& kernels = simd::kernels();
  const simd::FormatKernels& format = format_kernels(kernels, type);
  const index_t row_blocks = blocks(row_count, kernels.direct_rows);
  const auto begin = [=](index_t block) { return row_count * block / row_blocks; };
  if (row_count > 1) {
    thread_local Scratch scratch;
    float* interleaved = scratch.floats(row_count * inputs);
    for (index_t b = 0; b < row_blocks; ++b)
      kernels.interleave({x + begin(b) * x_stride, x_stride, begin(b + 1) - begin(b)}, inputs,
                         interleaved + begin(b) * inputs);
    x = interleaved;
  }
  const auto multiply_panels = [&](index_t p, index_t panel_count, float* sums, index_t sums_stride) {
    for (index_t b = 0; b < row_blocks; ++b)
      format.multiply(from(p, panel_count), x + begin(b) * inputs, begin(b + 1) - begin(b),
                      sums + begin(b) * sums_stride, sums_stride);
  };
  const auto multiply = [&](index_t first, index_t last) {
    const index_t last_complete = std::min(last, complete());
    // All panels at once if they are needed once; else one by one, so that it is still in a cache the second time.
    const index_t step = row_blocks == 1 ? std::max<index_t>(1, last_complete - first) : 1;
    for (index_t p = first; p < last_complete; p += step) multiply_panels(p, step, y + p * panel_width, y_stride);
    if (last > last_complete) {
      float padded[max_few_rows * panel_width];
      multiply_panels(last_complete, 1, padded, panel_width);
      for (index_t n = 0; n < row_count; ++n)
        std::copy_n(padded + n * panel_width, outputs % panel_width, y + n * y_stride + last_complete * panel_width);
    }
    finish(first * panel_width, std::min(outputs, last * panel_width), row_count, y, y_stride);
  };
  // Worth another thread from about 10 us on, at 16 bytes of weights and 80 multiplications per ns; 4 panels stream together.
  const index_t panel_ns = panel_bytes() / 16 + row_count * inputs * panel_width / 80 + 1;
  parallel_for(count(), 4 * (2500 / panel_ns + 1), multiply);
}

/// A prompt. Rows are interleaved in blocks of tile_rows that keep their sums in registers; a block of weights stays in a
/// cache while all rows use it, widened in the tile or once before; sums wait in y between two blocks of inputs.
void Linear::Panels::multiply_many(index_t row_count, const float* x, index_t x_stride, float* y, index_t y_stride) const {
  thread_local Scratch scratch;
  const index_t chunks = blocks(row_count, row_chunk);
  for (index_t c = 0; c < chunks; ++c) {
    const index_t first = row_count * c / chunks, rows = row_count * (c + 1) / chunks - first;
    const Chunk chunk{rows, blocks(rows, simd::kernels().tile_rows), scratch.floats(rows * inputs), y + first * y_stride, y_stride};
    interleave(x + first * x_stride, x_stride, chunk);
    multiply_chunk(chunk);
  }
}

/// [block of inputs][row block][input][row]: what one block of inputs needs lies together.
void Linear::Panels::interleave(const float* x, index_t x_stride, const Chunk& chunk) const {
  const simd::Kernels& kernels = simd::kernels();
  const auto interleave_blocks = [&](index_t first, index_t last) {
    for (index_t b = first; b < last; ++b)
      for (index_t k = 0; k < inputs; k += kernels.tile_inputs) {
        const index_t k_count = std::min<index_t>(kernels.tile_inputs, inputs - k);
        kernels.interleave({x + chunk.begin(b) * x_stride + k, x_stride, chunk.height(b)}, k_count,
                           chunk.interleaved + k * chunk.rows + chunk.begin(b) * k_count);
      }
  };
  parallel_for(chunk.blocks, 1 + 20000 / (inputs * kernels.tile_rows + 1), interleave_blocks);
}

/// Threads split panels, and the rows as well where panels are few.
void Linear::Panels::multiply_chunk(const Chunk& chunk) const {
  const index_t groups = std::clamp<index_t>(blocks(4 * threads(), count()), 1, chunk.blocks);
  const auto multiply_items = [&](index_t first, index_t last) {
    while (first < last) {
      const index_t group = first / count(), p = first % count(), p_last = std::min(count(), p + last - first);
      multiply_panels(p, p_last, chunk, chunk.blocks * group / groups, chunk.blocks * (group + 1) / groups);
      first += p_last - p;
    }
  };
  const index_t panel_ns = chunk.rows * inputs * panel_width / 80 / groups + 1;
  parallel_for(groups * count(), 10000 / panel_ns + 1, multiply_items);
}

/// Panels first ... last-1 for row blocks b0 ... b1-1.
void Linear::Panels::multiply_panels(index_t first, index_t last, const Chunk& chunk, index_t b0, index_t b1) const {
  const index_t input_block = simd::kernels().tile_inputs;
  thread_local Scratch scratch;
  float* const widened = scratch.floats(input_block * panel_width + row_chunk * panel_width);
  float* const padded = widened + input_block * panel_width;  // rows of the incomplete panel
  for (index_t k = 0; k == 0 || k < inputs; k += input_block)
    for (index_t p = first; p < last; ++p) {
      const Sums sums = p < complete() ? Sums{chunk.y + p * panel_width, chunk.y_stride} : Sums{padded, panel_width};
      const std::byte* const next = panel(p) + k * panel_width * element_size(type) + (p + 1 < last ? panel_bytes() : 0);
      multiply_block(p, k, chunk, b0, b1, sums, next, widened);
    }
  if (last > complete())
    for (index_t n = chunk.begin(b0); n < chunk.begin(b1); ++n)
      std::copy_n(padded + n * panel_width, outputs % panel_width, chunk.y + n * chunk.y_stride + complete() * panel_width);
  finish(first * panel_width, std::min(outputs, last * panel_width), chunk.begin(b1) - chunk.begin(b0),
         chunk.y + chunk.begin(b0) * chunk.y_stride, chunk.y_stride);
}

/// Inputs k ... of panel p, tile by tile. Every tile fetches its share of the weights that come next: all at once would be
/// more than memory can give.
void Linear::Panels::multiply_block(index_t p, index_t k, const Chunk& chunk, index_t b0, index_t b1, const Sums& sums,
                                    const std::byte* next, float* widened) const {
  const simd::Kernels& kernels = simd::kernels();
  const simd::FormatKernels& format = format_kernels(kernels, type);
  const auto multiply_tile = format.multiply_block ? format.multiply_block : kernels.f32.multiply_block;
  const index_t k_count = std::min<index_t>(kernels.tile_inputs, inputs - k);
  const void* weights = panel(p) + k * panel_width * element_size(type);
  if (!format.multiply_block) format.widen(from(p, 1), k, k_count, widened), weights = widened;
  const index_t tiles = (b1 - b0) * (panel_width / kernels.tile_outputs);
  const std::size_t step = blocks(panel_width * element_size(type), tiles);
  for (index_t o = 0; o < panel_width; o += kernels.tile_outputs)
    for (index_t b = b0; b < b1; ++b, next += k_count * step) {
      if (k != 0 && b + 1 < b1)
        for (index_t n = chunk.begin(b + 1); n < chunk.begin(b + 2); ++n) prefetch_sums(sums.data + n * sums.stride + o);
      multiply_tile(weights, o, k_count, chunk.interleaved + k * chunk.rows + chunk.begin(b) * k_count, chunk.height(b),
                    sums.data + chunk.begin(b) * sums.stride + o, sums.stride, k != 0, next, step);
    }
}

}  // namespace kv
