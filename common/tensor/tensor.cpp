#include "common/tensor/tensor.hpp"

#include <algorithm>
#include <cstdint>

namespace kv {

std::string shape_text(std::span<const index_t> shape) {
  std::string text = "(";
  for (const index_t size : shape) text += (text.size() > 1 ? "," : "") + std::to_string(size);
  return text + ")";
}

void require_shape(std::string_view label, std::span<const index_t> found, std::span<const index_t> expected) {
  if (std::ranges::equal(found, expected)) return;
  throw ShapeError(std::string(label) + " has shape " + shape_text(found) + ", expected " + shape_text(expected));
}

void require_range(std::string_view label, index_t first, index_t count, index_t held) {
  if (first <= held && count <= held - first) return;
  const auto number = [](index_t i) { return std::to_string(static_cast<std::int64_t>(i)); };  // 0 - 1 is -1
  throw std::out_of_range(std::string(label) + " " + number(first) + " ... " + number(first + count - 1) +
                          " do not fit: there are " + number(held));
}

}  // namespace kv
