#include "common/tensor/tensor.hpp"

#include <algorithm>

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

}  // namespace kv
