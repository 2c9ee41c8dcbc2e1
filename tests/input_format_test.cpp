// common/input_format: what a layer makes of its inputs, and the order in which it adds. exact: the definition written as a
// loop of std::fma, for every number of rows, instruction set (those with a matrix instruction and those without) and number
// of threads; rounding: every number of bf16 and what lies between. rel 1e-6 of the sum of magnitudes: a sum in double.
#include "common/tensor/input_format.hpp"

#include <cfloat>
#include <cmath>
#include <cstring>

#include "common/files/error.hpp"
#include "common/tensor/linear.hpp"
#include "tests/support/input_formats.hpp"
#include "tests/support/instruction_sets.hpp"
#include "tests/support/products.hpp"

using namespace kv;
using namespace kv::test;

namespace {

struct Weights {
  std::vector<std::uint16_t> numbers;
  index_t outputs, inputs;

  Weights(index_t outputs, index_t inputs, const std::vector<float>& values) : outputs(outputs), inputs(inputs) {
    for (const float value : values) numbers.push_back(to_bf16(value));
  }
  MatrixView view() const { return {numbers.data(), DType::bf16, outputs, inputs, inputs, 1}; }
};

float number(std::uint32_t bits) { return std::bit_cast<float>(bits); }
float flushed(float x) { return std::abs(x) < FLT_MIN ? std::copysign(0.0f, x) : x; }

/// The nearest number of bf16, found in double: the candidates are x's bits cut off, and the next one.
float nearest_bf16(float x) {
  if (!std::isfinite(x)) return x;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x) & 0xffff0000;
  const auto value = [](std::uint32_t b) {  // what would be infinity is the number behind the largest one
    return (b & 0x7f800000) == 0x7f800000 ? std::copysign(std::ldexp(1.0, 128), number(b)) : static_cast<double>(number(b));
  };
  const double below = std::abs(x - value(bits)), above = std::abs(value(bits + 0x10000) - x);
  const bool up = below == above ? (bits >> 16) % 2 == 1 : above < below;
  return number(up ? bits + 0x10000 : bits);
}

/// An input as its parts, the smallest first.
std::vector<float> parts(float x, InputFormat format) {
  if (rounds(format)) return {nearest_bf16(x)};
  const auto cut = [](float value) { return number(std::bit_cast<std::uint32_t>(value) & 0xffff0000); };
  const float high = cut(x), middle = cut(x - high);
  return {x - high - middle, middle, high};
}

/// In pairs: one chain, the odd input of every pair before the even one.
float sum_in_pairs(const Weights& w, index_t o, const std::vector<std::vector<float>>& inputs) {
  float sum = 0;
  for (index_t pair = 0; pair < w.inputs; pair += 2)
    for (const index_t i : {pair + 1, pair})
      if (i < w.inputs) sum = flushed(std::fma(flushed(inputs[i][0]), flushed(from_bf16(w.numbers[o * w.inputs + i])), sum));
  return sum;
}

/// In tiles: per 32 inputs and part, chains over the even and the odd ones, added, then added to the sum.
float sum_in_tiles(const Weights& w, index_t o, const std::vector<std::vector<float>>& inputs) {
  float sum = 0;
  for (index_t block = 0; block < w.inputs; block += 32)
    for (index_t part = 0; part < inputs[0].size(); ++part) {
      float chains[2] = {0, 0};
      for (index_t i = block; i < std::min(block + 32, w.inputs); ++i)
        chains[i % 2] = flushed(std::fma(flushed(inputs[i][part]), flushed(from_bf16(w.numbers[o * w.inputs + i])), chains[i % 2]));
      sum = flushed(sum + flushed(chains[0] + chains[1]));
    }
  return sum;
}

/// The definition.
std::vector<float> sums(const Weights& w, const std::vector<float>& x, index_t rows, InputFormat format) {
  std::vector<float> y;
  for (index_t n = 0; n < rows; ++n) {
    std::vector<std::vector<float>> inputs;
    for (index_t i = 0; i < w.inputs; ++i) inputs.push_back(parts(x[n * w.inputs + i], format));
    for (index_t o = 0; o < w.outputs; ++o)
      y.push_back(format == InputFormat::bf16 ? sum_in_pairs(w, o, inputs) : sum_in_tiles(w, o, inputs));
  }
  return y;
}

const std::vector<InputFormat> rounded_formats = {InputFormat::bf16x3, InputFormat::bf16, InputFormat::bf16_tiles};

/// One input times 1: what the layer has made of it. In every instruction set.
std::vector<float> taken(const std::vector<float>& x, InputFormat format) {
  const Weights one(1, 1, {1.0f});
  const Linear linear(one.view());
  const Inputs inputs(format);
  const std::vector<float> y = product(linear, x, x.size());
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 2);
    CAPTURE(name(set));
    REQUIRE(first_difference(product(linear, x, x.size()), y) == y.size());
  }
  return y;
}

/// Every number of bf16, with both infinities and all NaNs; and beside each the last but one before the middle to the next,
/// the middle, and what follows.
std::vector<float> all_bf16_and_between() {
  std::vector<float> all;
  for (std::uint32_t high = 0; high < 0x10000; ++high)
    for (const std::uint32_t low : {0x0u, 0x1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) all.push_back(number(high << 16 | low));
  return all;
}

}  // namespace

TEST_CASE("inputs: rounding takes the nearest number of bf16, ties to even, subnormal ones as zero", "[inputs]") {
  const InputFormat format = GENERATE(InputFormat::bf16, InputFormat::bf16_tiles);
  const std::vector<float> x = all_bf16_and_between(), y = taken(x, format);
  index_t wrong = 0;
  for (index_t i = 0; i < x.size(); ++i) {
    const float expected = flushed(nearest_bf16(x[i]));
    if (std::isnan(x[i]) ? !std::isnan(y[i]) : y[i] != expected) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("inputs: bf16x3 takes every number as it is, down to 2^-103", "[inputs]") {
  std::vector<float> x = all_bf16_and_between();
  const std::vector<float> others = random_floats(20000, 5);
  x.insert(x.end(), others.begin(), others.end());
  const std::vector<float> y = taken(x, InputFormat::bf16x3);
  index_t wrong = 0;
  for (index_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i])) wrong += !std::isnan(y[i]);
    else if (std::abs(x[i]) >= std::ldexp(1.0f, -103) || x[i] == 0) wrong += y[i] != x[i];
    else wrong += !(std::abs(y[i] - x[i]) < 2 * FLT_MIN);  // parts that are subnormal are lost
  }
  CHECK(wrong == 0);
}

TEST_CASE("inputs: the order of tiles or pairs for any number of rows, instruction set and threads", "[inputs]") {
  const InputFormat format = GENERATE(from_range(rounded_formats));
  const auto [outputs, inputs] = GENERATE(table<index_t, index_t>({{1, 7}, {31, 33}, {33, 128}, {70, 257}}));
  const Weights weights(outputs, inputs, random_floats(outputs * inputs, 11));
  const Linear linear(weights.view());
  const Inputs in_use(format);
  for (const index_t rows : {1, 2, 3, 15, 16, 17, 32, 33, 48, 100}) {
    const std::vector<float> x = random_floats(rows * inputs, 21), expected = sums(weights, x, rows, format);
    for (const InstructionSet set : available_instruction_sets())
      for (const index_t thread_count : {1, 2}) {
        const Machine machine(set, thread_count);
        CAPTURE(name(format), outputs, inputs, rows, name(set), thread_count);
        REQUIRE(first_difference(product(linear, x, rows), expected) == expected.size());
      }
  }
}

TEST_CASE("inputs: several row chunks and spans of inputs", "[inputs]") {
  const InputFormat format = GENERATE(from_range(rounded_formats));
  const index_t outputs = 70, inputs = 4130, rows = 230;  // spans of 512 to 2560 inputs
  const Weights weights(outputs, inputs, random_floats(outputs * inputs, 12));
  const Linear linear(weights.view());
  const Inputs in_use(format);
  const std::vector<float> x = random_floats(rows * inputs, 22), expected = sums(weights, x, rows, format);
  for (const InstructionSet set : available_instruction_sets())
    for (const index_t thread_count : {1, 2, 5}) {
      const Machine machine(set, thread_count);
      CAPTURE(name(format), name(set), thread_count);
      REQUIRE(first_difference(product(linear, x, rows), expected) == expected.size());
    }
}

TEST_CASE("inputs: subnormal numbers are zero before, between and after", "[inputs]") {
  const InputFormat format = GENERATE(from_range(rounded_formats));
  const index_t outputs = 64, inputs = 96, rows = 40;
  // Products around 2^-126, with subnormal weights and inputs among them.
  std::vector<float> w = random_floats(outputs * inputs, 13), x = random_floats(rows * inputs, 23);
  for (index_t i = 0; i < w.size(); ++i) w[i] = std::ldexp(w[i], i % 7 == 0 ? -127 : -static_cast<int>(i % 64) - 1);
  for (index_t i = 0; i < x.size(); ++i) x[i] = std::ldexp(x[i], i % 5 == 0 ? -127 : -62 - static_cast<int>(i % 63));
  const Weights weights(outputs, inputs, w);
  const Linear linear(weights.view());
  const Inputs in_use(format);
  const std::vector<float> expected = sums(weights, x, rows, format);
  CHECK(std::ranges::count(expected, 0.0f) < static_cast<std::ptrdiff_t>(expected.size()));
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    CAPTURE(name(format), name(set));
    CHECK(first_difference(product(linear, x, rows), expected) == expected.size());
    // and afterwards they are numbers again
    volatile float smallest = FLT_MIN;
    CHECK(smallest / 2 != 0.0f);
  }
}

TEST_CASE("inputs: against a sum in double", "[inputs]") {
  const index_t outputs = 100, inputs = 2048, rows = 5;
  const Weights weights(outputs, inputs, random_floats(outputs * inputs, 14));
  const Linear linear(weights.view());
  const std::vector<float> x = random_floats(rows * inputs, 24);
  for (const InputFormat format : input_formats()) {
    if (!goes_with(format, DType::bf16)) continue;
    const Inputs in_use(format);
    const std::vector<float> y = product(linear, x, rows);
    for (index_t n = 0; n < rows; ++n)
      for (index_t o = 0; o < outputs; ++o) {
        double sum = 0, magnitude = 0;
        for (index_t i = 0; i < inputs; ++i) {
          const float input = x[n * inputs + i];
          const double w = from_bf16(weights.numbers[o * inputs + i]);
          sum += w * (rounds(format) ? nearest_bf16(input) : input);
          magnitude += std::abs(w * input);
        }
        CAPTURE(name(format), n, o);
        const bool one_chain = format == InputFormat::f32 || format == InputFormat::bf16;
        REQUIRE(std::abs(y[n * outputs + o] - sum) <= (one_chain ? 1e-6 : 2e-7) * magnitude);
      }
  }
}

TEST_CASE("inputs: a bias is added, and weights that are not bf16 are refused by name", "[inputs]") {
  const Weights weights(40, 64, random_floats(40 * 64, 15));
  const std::vector<float> x = random_floats(3 * 64, 25), bias = random_floats(40, 16), wide = random_floats(40 * 64, 17);
  const Linear packed_before(MatrixView{wide.data(), DType::f32, 40, 64, 64, 1});
  for (const InputFormat format : rounded_formats) {
    const Inputs in_use(format);
    std::vector<float> expected = product(Linear(weights.view()), x, 3);
    for (index_t i = 0; i < expected.size(); ++i) expected[i] += bias[i % 40];
    CHECK(first_difference(product(Linear({weights.view(), bias.data()}), x, 3), expected) == expected.size());
    for (const DType type : {DType::f32, DType::f16, DType::f8_e4m3, DType::i8}) {
      CHECK_FALSE(goes_with(format, type));
      MatrixView matrix{wide.data(), type, 4, 4, 4, 1};
      matrix.where = "m.safetensors: tensor 'x'";
      CHECK_THROWS_AS(Linear(matrix), UsageError);
      CHECK_THROWS_WITH(Linear(matrix), "inputs in " + std::string(name(format)) + " go with weights in bf16; m.safetensors: tensor 'x' is in " +
                                            std::string(name(type)));
    }
    CHECK_THROWS_AS(product(packed_before, x, 3), UsageError);
  }
}
