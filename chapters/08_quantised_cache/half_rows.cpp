#include "chapters/08_quantised_cache/half_rows.hpp"

#include <cstring>

#include "common/tensor/widen.hpp"

namespace kv {

HalfRows::HalfRows(DType type, index_t width) : RowFormat(width), type_(type) {
  if (type != DType::bf16 && type != DType::f16)
    throw std::invalid_argument("HalfRows: " + std::string(name(type)) + " has not 16 bits");
}

void HalfRows::store(std::span<const float> row, std::byte* out) const {
  for (index_t i = 0; i < row.size(); ++i) {
    const std::uint16_t number = type_ == DType::bf16 ? to_bf16(row[i]) : to_f16(row[i]);
    std::memcpy(out + 2 * i, &number, 2);
  }
}

void HalfRows::widen(const StoredRows& rows, float* out, index_t stride) const {
  for (index_t s = 0; s < rows.count; ++s)
    kv::widen(type_, rows.data + s * rows.stride, 1.0f, {out + s * stride, width()});
}

}  // namespace kv
