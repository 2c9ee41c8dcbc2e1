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

InputFormat fastest_input_format() {
  const InputFormat before = input_format();
  use_input_format(InputFormat::f32);
  const std::vector<std::uint16_t> numbers(outputs * inputs, to_bf16(0.5f));
  const Linear layer(MatrixView{numbers.data(), DType::bf16, outputs, inputs, inputs, 1});
  Tensor<2> x = empty<2>({row_count, inputs});
  std::fill(x.begin(), x.end(), 0.5f);

  std::vector<double> least(input_formats().size(), 1e9);
  for (index_t round = 0; round < repetitions; ++round)
    for (index_t i = 0; i < least.size(); ++i) least[i] = std::min(least[i], seconds(layer, x, input_formats()[i]));
  use_input_format(before);
  return input_formats()[static_cast<index_t>(std::ranges::min_element(least) - least.begin())];
}

}  // namespace kv
