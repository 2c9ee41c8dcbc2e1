#include "chapters/06_cuda_kernels/model/matrix.hpp"

#include <algorithm>
#include <cstring>

namespace kv::cuda {
namespace {

std::size_t element_bytes(Format format) { return format == Format::f32 ? 4 : 2; }

/// bf16 when all are; what is neither f32 nor bf16 is widened.
Format common_format(std::span<const LinearView> parts) {
  const bool all_bf16 = std::ranges::all_of(parts, [](const LinearView& part) { return part.weight.type == DType::bf16; });
  return all_bf16 ? Format::bf16 : Format::f32;
}

index_t rows_of(std::span<const LinearView> parts) {
  index_t rows = 0;
  for (const LinearView& part : parts) {
    require_shape("stacked matrices: columns", std::array{part.weight.columns}, std::array{parts.front().weight.columns});
    rows += part.weight.rows;
  }
  return rows;
}

/// One below the other, 0 for those that have none; empty when none has.
std::vector<float> biases_of(std::span<const LinearView> parts) {
  std::vector<float> biases;
  if (std::ranges::none_of(parts, [](const LinearView& part) { return bool(part.bias); })) return biases;
  for (const auto& [weight, bias] : parts)
    for (index_t i = 0; i < weight.rows; ++i) biases.push_back(bias ? bias[i] : 0.0f);
  return biases;
}

/// @param to (rows,stride), zero
template <class W>
void copy_elements(const kv::MatrixView& from, int stride, W* to) {
  const bool in_place = from.column_stride == 1 && from.type == (sizeof(W) == 4 ? DType::f32 : DType::bf16);
  for (index_t i = 0; i < from.rows; ++i, to += stride) {
    if (in_place) {
      std::memcpy(to, static_cast<const std::byte*>(from.data) + i * from.row_stride * sizeof(W), from.columns * sizeof(W));
      continue;
    }
    for (index_t j = 0; j < from.columns; ++j) {
      W& element = to[j];
      if constexpr (sizeof(W) == 4)
        element = from.at(i, j);
      else
        element = to_bf16(from.at(i, j));  // exact: it is one
    }
  }
}

}  // namespace

Matrix::Matrix(Format format, index_t rows, index_t columns)
    : format_(format), rows_(static_cast<int>(rows)), columns_(static_cast<int>(columns)),
      bytes_(rows * static_cast<index_t>(padded_width(columns)) * element_bytes(format)) {
  if (bytes_.size() != 0 && padded_width(columns) != columns_) check(cudaMemset(bytes_.data(), 0, bytes_.size()), "Matrix: padding");
}

Matrix::Matrix(std::span<const LinearView> parts)
    : Matrix(common_format(parts), rows_of(parts), parts.front().weight.columns) {
  bias_ = Buffer<float>(std::span<const float>(biases_of(parts)));
  std::vector<std::byte> host(bytes_.size());
  std::byte* next = host.data();
  for (const auto& [part, bias] : parts) {
    require_numbers(part);
    if (format_ == Format::f32)
      copy_elements(part, stride(), reinterpret_cast<float*>(next));
    else
      copy_elements(part, stride(), reinterpret_cast<bf16*>(next));
    next += part.rows * static_cast<index_t>(stride()) * element_bytes(format_);
  }
  bytes_.upload(host);
}

}  // namespace kv::cuda
