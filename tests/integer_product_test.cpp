// common/integer_product: inputs of a layer in integers. exact: the definition written as plain loops with sums of 64 bits, for
// every number of rows, instruction set (with an instruction for it and without) and number of threads; every integer that an
// input can become; the largest sums.
#include "common/tensor/integer_product.hpp"

#include <cfloat>
#include <cmath>

#include "common/files/error.hpp"
#include "common/tensor/simd/matrix_instructions.hpp"
#include "tests/support/input_formats.hpp"
#include "tests/support/instruction_sets.hpp"
#include "tests/support/products.hpp"

using namespace kv;
using namespace kv::test;

namespace {

struct Weights {
  std::vector<std::int8_t> numbers;
  std::vector<float> scales;  // of outputs
  index_t outputs, inputs;

  Weights(index_t outputs, index_t inputs) : outputs(outputs), inputs(inputs) {
    for (const float value : random_floats(outputs * inputs, 31)) numbers.push_back(static_cast<std::int8_t>(std::lround(value * 127)));
    scales = random_floats(outputs, 32, 0.001f, 0.01f);
  }
  /// y = x
  explicit Weights(index_t size) : numbers(size * size), outputs(size), inputs(size) {
    for (index_t i = 0; i < size; ++i) numbers[i * size + i] = 1;
    scales.assign(size, 1.0f);
  }
  MatrixView view() const { return {numbers.data(), DType::i8, outputs, inputs, inputs, 1, {}, scales.data()}; }
};

float largest(const float* x, index_t count) {
  float found = 0;
  for (index_t i = 0; i < count; ++i) found = std::max(found, std::abs(x[i]));
  return found;
}

/// The definition.
std::vector<float> outputs_of(const Weights& w, const std::vector<float>& x, index_t rows, InputFormat format) {
  const float limit = format == InputFormat::int8 ? 127 : 32639;
  std::vector<float> y;
  for (index_t n = 0; n < rows; ++n) {
    const float* const row = x.data() + n * w.inputs;
    const float scale = largest(row, w.inputs) / limit;
    for (index_t o = 0; o < w.outputs; ++o) {
      std::int64_t sum = 0;
      for (index_t i = 0; i < w.inputs && scale != 0; ++i)
        sum += w.numbers[o * w.inputs + i] * std::llrint(std::clamp(std::nearbyint(row[i] / scale), -limit, limit));
      y.push_back(static_cast<float>(sum) * scale * w.scales[o]);
    }
  }
  return y;
}

void check_everywhere(const Weights& weights, const std::vector<float>& x, index_t rows, InputFormat format) {
  const Linear linear(weights.view());
  const std::vector<float> expected = outputs_of(weights, x, rows, format);
  for (const InstructionSet set : available_instruction_sets())
    for (const index_t thread_count : {1, 2, 5}) {
      const Machine machine(set, thread_count);
      CAPTURE(name(format), weights.outputs, weights.inputs, rows, name(set), thread_count);
      REQUIRE(first_difference(product(linear, x, rows), expected) == expected.size());
    }
}

const std::vector<InputFormat> formats = {InputFormat::int8, InputFormat::int8x2};

}  // namespace

#ifdef __x86_64__
// One that fails its probe is left out, and no other test would miss it.
TEST_CASE("integers, pairs: an instruction that the processor has is used", "[inputs]") {
  const std::vector<InstructionSet> sets = available_instruction_sets();
  const bool avx512 = std::ranges::count(sets, InstructionSet::avx512) != 0;
  CHECK((std::ranges::count(sets, InstructionSet::avx512_vnni) != 0) == (avx512 && simd::vnni() && __builtin_cpu_supports("avx512vnni")));
  CHECK((std::ranges::count(sets, InstructionSet::avx512_bf16) != 0) == (avx512 && simd::bf16_pairs() && __builtin_cpu_supports("avx512bf16")));
}
#endif

TEST_CASE("integers: the definition for any number of rows, instruction set and threads", "[inputs]") {
  const Inputs in_use(GENERATE(from_range(formats)));
  const auto [outputs, inputs] = GENERATE(table<index_t, index_t>({{1, 7}, {31, 33}, {33, 128}, {70, 257}, {5, 0}}));
  const Weights weights(outputs, inputs);
  for (const index_t rows : {1, 2, 3, 4, 7, 8, 12, 13, 14, 15, 29, 100}) check_everywhere(weights, random_floats(rows * inputs, 33), rows, input_format());
}

TEST_CASE("integers: several chunks of rows", "[inputs]") {
  const Inputs in_use(GENERATE(from_range(formats)));
  check_everywhere(Weights(70, 4130), random_floats(230 * 4130, 34), 230, input_format());
}

TEST_CASE("integers: an input becomes the nearest, ties to even", "[inputs]") {
  const Inputs in_use(GENERATE(from_range(formats)));
  const int limit = input_format() == InputFormat::int8 ? 127 : 32639;
  // All halves from one end to the other. Every row has the largest number, so that its scale is 1.
  constexpr index_t width = 64;
  std::vector<float> x;
  for (int halves = -2 * limit; halves <= 2 * limit; ++halves) {
    if (x.size() % width == 0) x.push_back(static_cast<float>(limit));
    x.push_back(0.5f * static_cast<float>(halves));
  }
  x.resize((x.size() + width - 1) / width * width);
  const index_t rows = x.size() / width;
  const Linear linear(Weights(width).view());
  std::vector<float> expected;
  for (const float value : x) expected.push_back(std::nearbyint(value) + 0.0f);
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    CAPTURE(name(input_format()), name(set));
    CHECK(first_difference(product(linear, x, rows), expected) == expected.size());
  }
}

TEST_CASE("integers: the largest sums that fit, and one input too many", "[inputs]") {
  const Inputs in_use(GENERATE(from_range(formats)));
  constexpr index_t most = simd::max_integer_inputs;
  Weights weights(4, most + 1);
  // 127, -128, and two of changing signs.
  for (index_t i = 0; i <= most; ++i) {
    weights.numbers[i] = 127;
    weights.numbers[most + 1 + i] = -128;
    weights.numbers[2 * (most + 1) + i] = static_cast<std::int8_t>(i % 2 == 0 ? 127 : -128);
    weights.numbers[3 * (most + 1) + i] = static_cast<std::int8_t>(i % 3 == 0 ? 127 : -128);
  }
  CHECK_THROWS_AS(Linear(weights.view()), UsageError);
  CHECK_THROWS_WITH(Linear(weights.view()), "inputs in " + std::string(name(input_format())) +
                                                ": a layer has 131072 inputs; sums of more than 131071 integers may not fit");
  Weights fits(4, most);
  for (index_t o = 0; o < 4; ++o) std::copy_n(weights.numbers.begin() + static_cast<std::ptrdiff_t>(o * (most + 1)), most, fits.numbers.begin() + static_cast<std::ptrdiff_t>(o * most));
  // All at either end; and in two parts, 126 * 256 + 128 and its opposite: the low part is -128, the high one the largest.
  std::vector<float> x(5 * most, 1.0f);
  for (index_t i = 0; i < most; ++i) {
    x[most + i] = -1.0f;
    x[2 * most + i] = i % 2 == 0 ? 1.0f : -1.0f;
    x[3 * most + i] = i == 0 ? 32639.0f : 32384.0f;
    x[4 * most + i] = i == 0 ? 32639.0f : -32384.0f;
  }
  check_everywhere(fits, x, 5, input_format());
}

TEST_CASE("integers: a row of zeros, of the smallest and of the largest numbers", "[inputs]") {
  const Inputs in_use(GENERATE(from_range(formats)));
  const index_t inputs = 40;
  const Weights weights(33, inputs);
  const float smallest = FLT_TRUE_MIN;
  std::vector<float> x;
  for (const float size : {0.0f, smallest, 63 * smallest, 64 * smallest, 190 * smallest, 40000 * smallest, 48958 * smallest, FLT_MIN, 1e30f})
    for (index_t i = 0; i < inputs; ++i) x.push_back(i % 3 == 0 ? size : i % 3 == 1 ? -size / 2 : size / 3);
  check_everywhere(weights, x, x.size() / inputs, input_format());

  const std::vector<float> top(inputs, 0.999f * FLT_MAX);
  const std::vector<float> y = product(Linear(Weights(inputs).view()), top, 1);
  CHECK(std::abs(y[0] / top[0] - 1) < 1e-6f);
}

TEST_CASE("integers: an input that is not finite makes all outputs of its row NaN, and no others", "[inputs]") {
  const Inputs in_use(GENERATE(from_range(formats)));
  const float bad = GENERATE(NAN, -NAN, INFINITY, -INFINITY);
  const index_t inputs = 70, outputs = 40, rows = 20;
  const Weights weights(outputs, inputs);
  std::vector<float> x = random_floats(rows * inputs, 35), expected = outputs_of(weights, x, rows, input_format());
  for (const index_t n : {index_t{0}, index_t{7}, rows - 1}) {
    x[n * inputs + 5 + n] = bad;
    std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(n * outputs), outputs, NAN);
  }
  const Linear linear(weights.view());
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 2);
    CAPTURE(name(input_format()), bad, name(set));
    CHECK(first_difference(product(linear, x, rows), expected) == expected.size());
  }
}

TEST_CASE("integers: half a scale of every input is lost at most", "[inputs]") {
  const Inputs in_use(GENERATE(from_range(formats)));
  const index_t inputs = 500, outputs = 50, rows = 3;
  const Weights weights(outputs, inputs);
  const std::vector<float> x = random_floats(rows * inputs, 36), y = product(Linear(weights.view()), x, rows);
  const double limit = input_format() == InputFormat::int8 ? 127 : 32639;
  for (index_t n = 0; n < rows; ++n)
    for (index_t o = 0; o < outputs; ++o) {
      double sum = 0, magnitude = 0, weight = 0;
      for (index_t i = 0; i < inputs; ++i) {
        const double w = weights.view().at(o, i), term = w * x[n * inputs + i];
        sum += term, magnitude += std::abs(term), weight += std::abs(w);
      }
      CAPTURE(name(input_format()), n, o);
      REQUIRE(std::abs(y[n * outputs + o] - sum) <= 0.5 * weight * largest(x.data() + n * inputs, inputs) / limit + 1e-6 * magnitude);
    }
}

TEST_CASE("integers: a bias is added; layers whose weights are not i8 stay with f32", "[inputs]") {
  const Inputs in_use(GENERATE(from_range(formats)));
  const Weights weights(40, 64);
  const std::vector<float> x = random_floats(3 * 64, 37), bias = random_floats(40, 38), wide = random_floats(40 * 64, 39);
  std::vector<float> expected = product(Linear(weights.view()), x, 3);
  for (index_t i = 0; i < expected.size(); ++i) expected[i] += bias[i % 40];
  CHECK(first_difference(product(Linear({weights.view(), bias.data()}), x, 3), expected) == expected.size());

  std::vector<std::uint16_t> halves;
  for (const float value : wide) halves.push_back(to_bf16(value));
  for (const MatrixView& matrix : {MatrixView{wide.data(), DType::f32, 40, 64, 64, 1}, MatrixView{halves.data(), DType::bf16, 40, 64, 64, 1}}) {
    CHECK_FALSE(goes_with(input_format(), matrix.type));
    const Linear linear(matrix);
    const std::vector<float> rounded = product(linear, x, 3);
    const Inputs exact(InputFormat::f32);
    CHECK(first_difference(product(linear, x, 3), rounded) == rounded.size());
  }
}
