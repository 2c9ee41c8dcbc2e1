#include "common/tensor/input_format.hpp"

#include <atomic>
#include <stdexcept>
#include <string>

#include "common/files/error.hpp"
#include "common/tensor/simd/integers.hpp"

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
    case InputFormat::int8: return "int8";
    case InputFormat::int8x2: return "int8x2";
  }
  throw std::invalid_argument("name: unknown input format");
}

std::vector<InputFormat> input_formats() {
  return {InputFormat::f32, InputFormat::bf16x3, InputFormat::bf16, InputFormat::bf16_tiles, InputFormat::int8, InputFormat::int8x2};
}

bool integers(InputFormat inputs) { return inputs == InputFormat::int8 || inputs == InputFormat::int8x2; }

namespace {

DType weights_of(InputFormat inputs) { return integers(inputs) ? DType::i8 : DType::bf16; }

}  // namespace

bool goes_with(InputFormat inputs, DType weights) { return inputs == InputFormat::f32 || weights == weights_of(inputs); }

void refuse(InputFormat inputs, DType weights, std::string_view where) {
  throw UsageError("inputs in " + std::string(name(inputs)) + " go with weights in " + std::string(name(weights_of(inputs))) + "; " +
                   std::string(where.empty() ? "a layer" : where) + " is in " + std::string(name(weights)));
}

InputFormat format_of_layer(InputFormat inputs, DType weights, index_t input_count, std::string_view where) {
  if (!goes_with(inputs, weights)) {
    if (!integers(inputs)) refuse(inputs, weights, where);
    return InputFormat::f32;
  }
  if (integers(inputs) && input_count > simd::max_integer_inputs)
    throw UsageError("inputs in " + std::string(name(inputs)) + ": " + std::string(where.empty() ? "a layer" : where) + " has " +
                     std::to_string(input_count) + " inputs; sums of more than " + std::to_string(simd::max_integer_inputs) + " integers may not fit");
  return inputs;
}

bool rounds(InputFormat inputs) {
  return inputs == InputFormat::bf16 || inputs == InputFormat::bf16_tiles || integers(inputs);
}

InputFormat input_format() { return choice().load(std::memory_order_relaxed); }

void use_input_format(InputFormat format) { choice() = format; }

}  // namespace kv
