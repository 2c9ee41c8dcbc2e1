#include "common/tensor/fastest_format.hpp"

#include <algorithm>
#include <chrono>

#include "common/tensor/linear.hpp"

namespace kv {
namespace {

constexpr index_t row_count = 192, inputs = 2048, outputs = 1024, repetitions = 3;

double seconds(const Linear& layer, const Tensor<2>& x, InputFormat format) {
  use_input_format(format);
  const auto begin = std::chrono::steady_clock::now();
  layer(x);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

InputFormat fastest_input_format(DType weights) {
  const InputFormat before = input_format();
  use_input_format(InputFormat::f32);
  const std::vector<std::byte> numbers(outputs * inputs * element_size(weights), std::byte{0x3f});
  const Linear layer(MatrixView{numbers.data(), weights, outputs, inputs, inputs, 1});
  Tensor<2> x = empty<2>({row_count, inputs});
  std::fill(x.begin(), x.end(), 0.5f);

  std::vector<InputFormat> formats = input_formats();
  std::erase_if(formats, [=](InputFormat format) { return !goes_with(format, weights); });
  std::vector<double> least(formats.size(), 1e9);
  for (index_t round = 0; round < repetitions; ++round)
    for (index_t i = 0; i < least.size(); ++i) least[i] = std::min(least[i], seconds(layer, x, formats[i]));
  use_input_format(before);
  return formats[static_cast<index_t>(std::ranges::min_element(least) - least.begin())];
}

}  // namespace kv
