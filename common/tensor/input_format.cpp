#include "common/tensor/input_format.hpp"

#include <atomic>
#include <stdexcept>

namespace kv {
namespace {

std::atomic<InputFormat>& choice() {
  static std::atomic<InputFormat> choice = InputFormat::f32;
  return choice;
}

}  // namespace

std::string_view name(InputFormat format) {
  switch (format) {
    case InputFormat::f32: return "f32";
    case InputFormat::bf16x3: return "bf16x3";
    case InputFormat::bf16: return "bf16";
    case InputFormat::bf16_tiles: return "bf16-tiles";
  }
  throw std::invalid_argument("name: unknown input format");
}

std::vector<InputFormat> input_formats() { return {InputFormat::f32, InputFormat::bf16x3, InputFormat::bf16, InputFormat::bf16_tiles}; }

bool goes_with(InputFormat inputs, DType weights) { return inputs == InputFormat::f32 || weights == DType::bf16; }

bool rounds(InputFormat inputs) { return inputs == InputFormat::bf16 || inputs == InputFormat::bf16_tiles; }

InputFormat input_format() { return choice().load(std::memory_order_relaxed); }

void use_input_format(InputFormat format) { choice() = format; }

}  // namespace kv
