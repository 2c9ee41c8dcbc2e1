// common/linear: every output is one FMA chain over its inputs, ascending. exact: the chain written as a loop of std::fma,
// for every number of rows, instruction set and number of threads. rel 1e-6 of the sum of magnitudes: a sum in double.
#include "common/tensor/linear.hpp"

#include <cmath>
#include <cstring>

#include "tests/support/instruction_sets.hpp"
#include "tests/support/products.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// A checkpoint's matrix in any number format, with block scales if asked for.
struct Weights {
  std::vector<std::byte> bytes;
  std::vector<float> scales;
  MatrixView matrix;

  Weights(DType type, index_t outputs, index_t inputs, bool scaled = false) : bytes(outputs * inputs * element_size(type)) {
    const std::vector<float> values = random_floats(outputs * inputs, 11);
    for (index_t i = 0; i < values.size(); ++i) put(type, i, values[i]);
    if (scaled) scales = random_floats((outputs + 127) / 128 * ((inputs + 127) / 128), 12, 0.01f, 3.0f);
    matrix = {bytes.data(), type, outputs, inputs, inputs, 1, scaled ? scales.data() : nullptr};
  }

  void put(DType type, index_t i, float value) {
    if (type == DType::f32) std::memcpy(&bytes[4 * i], &value, 4);
    if (type == DType::bf16) put16(i, to_bf16(value));
    if (type == DType::f16) put16(i, to_f16(value));
    // All codes but the two NaNs.
    if (type == DType::f8_e4m3) bytes[i] = static_cast<std::byte>(i % 127 + (i / 7 % 2) * 128);
    if (type == DType::i8) bytes[i] = static_cast<std::byte>(std::lround(value * 80));
  }
  void put16(index_t i, std::uint16_t bits) { std::memcpy(&bytes[2 * i], &bits, 2); }
};

/// The definition: y(n,o) = chain over i of fma(x(n,i), W(o,i), sum).
std::vector<float> chains(const MatrixView& w, const std::vector<float>& x, index_t rows) {
  std::vector<float> y(rows * w.rows), weights(w.rows * w.columns);
  for (index_t o = 0; o < w.rows; ++o)
    for (index_t i = 0; i < w.columns; ++i) weights[o * w.columns + i] = w.at(o, i);
  for (index_t n = 0; n < rows; ++n)
    for (index_t o = 0; o < w.rows; ++o) {
      float sum = 0;
      for (index_t i = 0; i < w.columns; ++i) sum = std::fma(x[n * w.columns + i], weights[o * w.columns + i], sum);
      y[n * w.rows + o] = sum;
    }
  return y;
}

const std::vector<index_t> row_counts = {1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15, 27, 28, 37, 64, 100};

}  // namespace

TEST_CASE("linear: one chain for any number of rows, format, instruction set and threads", "[linear]") {
  const auto type = GENERATE(DType::f32, DType::bf16, DType::f16, DType::f8_e4m3, DType::i8);
  const auto [outputs, inputs] = GENERATE(table<index_t, index_t>({{1, 7}, {31, 33}, {33, 130}, {100, 257}, {130, 300}}));
  const bool scaled = type == DType::f8_e4m3 && outputs != 33;
  const Weights weights(type, outputs, inputs, scaled);
  const Linear linear(weights.matrix);
  CHECK(linear.type() == type);

  for (const index_t rows : row_counts) {
    const std::vector<float> x = random_floats(rows * inputs, 21);
    const std::vector<float> expected = chains(weights.matrix, x, rows);
    for (const InstructionSet set : available_instruction_sets())
      for (const index_t thread_count : {1, 2}) {
        const Machine machine(set, thread_count);
        CAPTURE(name(type), outputs, inputs, rows, name(set), thread_count);
        REQUIRE(first_difference(product(linear, x, rows), expected) == expected.size());
      }
  }
}

TEST_CASE("linear: several row chunks and input blocks", "[linear]") {
  const auto type = GENERATE(DType::bf16, DType::f8_e4m3);
  const index_t outputs = 160, inputs = 1100, rows = 600;
  const Weights weights(type, outputs, inputs, type == DType::f8_e4m3);
  const Linear linear(weights.matrix);
  const std::vector<float> x = random_floats(rows * inputs, 22);
  const std::vector<float> expected = chains(weights.matrix, x, rows);
  for (const InstructionSet set : available_instruction_sets())
    for (const index_t thread_count : {1, 2, 5}) {
      const Machine machine(set, thread_count);
      CAPTURE(name(type), name(set), thread_count);
      REQUIRE(first_difference(product(linear, x, rows), expected) == expected.size());
    }
}

TEST_CASE("linear: against a sum in double", "[linear]") {
  const auto type = GENERATE(DType::f32, DType::bf16, DType::f16, DType::f8_e4m3, DType::i8);
  const index_t outputs = 100, inputs = 513;
  const index_t rows = GENERATE(1, 14, 37);
  const Weights weights(type, outputs, inputs, type == DType::f8_e4m3);
  const std::vector<float> x = random_floats(rows * inputs, 23);
  const std::vector<float> y = product(Linear(weights.matrix), x, rows);
  for (index_t n = 0; n < rows; ++n)
    for (index_t o = 0; o < outputs; ++o) {
      double sum = 0, magnitude = 0;
      for (index_t i = 0; i < inputs; ++i) {
        const double term = static_cast<double>(x[n * inputs + i]) * weights.matrix.at(o, i);
        sum += term;
        magnitude += std::abs(term);
      }
      CAPTURE(name(type), n, o);
      REQUIRE(std::abs(y[n * outputs + o] - sum) <= 1e-6 * magnitude);
    }
}

TEST_CASE("linear: tensors, strided views, slices", "[linear]") {
  const index_t outputs = 45, inputs = 150, rows = 9;
  const Weights weights(GENERATE(DType::f32, DType::bf16, DType::f8_e4m3), outputs, inputs);
  const std::vector<float> x = random_floats(rows * inputs, 24);

  SECTION("the transposed view of the transposed matrix") {
    std::vector<std::byte> columns(weights.bytes.size());
    const index_t size = element_size(weights.matrix.type);
    for (index_t o = 0; o < outputs; ++o)
      for (index_t i = 0; i < inputs; ++i)
        std::memcpy(&columns[(i * outputs + o) * size], &weights.bytes[(o * inputs + i) * size], size);
    const MatrixView view = MatrixView{columns.data(), weights.matrix.type, inputs, outputs, outputs, 1}.transposed();
    CHECK(view.at(3, 70) == weights.matrix.at(3, 70));
    CHECK(first_difference(product(Linear(view), x, rows), chains(weights.matrix, x, rows)) == rows * outputs);
  }
  SECTION("rows of a matrix") {
    const MatrixView slice = weights.matrix.row_slice(7, 36);
    CHECK(first_difference(product(Linear(slice), x, rows), chains(slice, x, rows)) == rows * 36);
    CHECK_THROWS_AS(weights.matrix.row_slice(40, 6), std::out_of_range);
  }
  SECTION("tensors, and the view on one") {
    Tensor<2> tensor = empty<2>({rows, inputs});
    std::copy(x.begin(), x.end(), tensor.data());
    const Tensor<2> y = Linear(weights.matrix)(tensor);
    CHECK(first_difference({y.begin(), y.end()}, chains(weights.matrix, x, rows)) == rows * outputs);
    CHECK(view(tensor).at(2, 140) == tensor(2, 140));
    CHECK_THROWS_AS(Linear(weights.matrix)(zeros<2>({2, inputs + 1})), ShapeError);
  }
  SECTION("no rows, no inputs") {
    CHECK(Linear(weights.matrix)(empty<2>({0, inputs})).shape(0) == 0);
    const Weights nothing(DType::f32, 5, 0);
    for (const InstructionSet set : available_instruction_sets()) {
      const Machine machine(set, 2);
      CHECK(product(Linear(nothing.matrix), {}, 1) == std::vector<float>(5, 0.0f));
      CHECK(product(Linear(nothing.matrix), {}, 40) == std::vector<float>(5 * 40, 0.0f));
    }
  }
}

TEST_CASE("linear: block scales", "[linear]") {
  const Weights weights(DType::f8_e4m3, 300, 260, true);
  CHECK(weights.matrix.at(129, 258) ==
        weights.scales[1 * 3 + 2] * from_f8_e4m3(static_cast<std::uint8_t>(weights.bytes[129 * 260 + 258])));
  const MatrixView slice = weights.matrix.row_slice(128, 150);
  CHECK(slice.at(1, 258) == weights.matrix.at(129, 258));
  const std::vector<float> x = random_floats(3 * 260, 25);
  CHECK(first_difference(product(Linear(slice), x, 3), chains(slice, x, 3)) == 3 * 150);
  for (const index_t first : {index_t{64}, index_t{40}, index_t{129}}) {  // a panel's border, and inside one
    const MatrixView inside = weights.matrix.row_slice(first, 100);
    CHECK(inside.row_slice(30, 60).at(59, 258) == weights.matrix.at(first + 89, 258));
    CHECK(first_difference(product(Linear(inside), x, 3), chains(inside, x, 3)) == 3 * 100);
    CHECK_NOTHROW(require_numbers(inside));
  }
  for (const index_t first : {index_t{128}, index_t{50}}) {
    const MatrixView columns = weights.matrix.column_slice(first, 120), part = columns.row_slice(70, 90);
    CHECK(part.at(80, 100) == weights.matrix.at(150, first + 100));
    CHECK(part.column_slice(90, 30).at(80, 10) == weights.matrix.at(150, first + 100));
    const std::vector<float> y = random_floats(3 * 120, 26);
    CHECK(first_difference(product(Linear(part), y, 3), chains(part, y, 3)) == 3 * 90);
    CHECK_NOTHROW(require_numbers(part));
  }
  CHECK_THROWS_AS(weights.matrix.column_slice(200, 61), std::out_of_range);
  CHECK_THROWS_AS(weights.matrix.transposed(), std::invalid_argument);
  MatrixView wrong = Weights(DType::bf16, 4, 4).matrix;
  wrong.block_scales = weights.scales.data();
  CHECK_THROWS_AS(Linear(wrong), std::invalid_argument);
}

// exact: the chain, then one sum.
TEST_CASE("linear: biases", "[linear]") {
  const index_t outputs = 45, inputs = 150;
  const DType type = GENERATE(DType::f32, DType::bf16, DType::f8_e4m3, DType::i8);
  CAPTURE(name(type));
  const Weights weights(type, outputs, inputs);
  const std::vector<float> bias = random_floats(outputs, 14);
  for (const index_t rows : {1, 9, 40}) {
    const std::vector<float> x = random_floats(rows * inputs, 29);
    std::vector<float> expected = product(Linear(weights.matrix), x, rows);
    for (index_t i = 0; i < expected.size(); ++i) expected[i] += bias[i % outputs];
    CHECK(first_difference(product(Linear({weights.matrix, bias.data()}), x, rows), expected) == rows * outputs);
  }
}

// exact: the chain over the integers, then one product with the output's scale.
TEST_CASE("linear: row scales", "[linear]") {
  const index_t outputs = 45, inputs = 150;
  Weights weights(DType::i8, outputs, inputs);
  const std::vector<float> scales = random_floats(outputs, 13, 0.01f, 3.0f);
  const MatrixView integers = weights.matrix;
  MatrixView scaled = integers;
  scaled.row_scales = scales.data();
  CHECK(scaled.has_scales());
  CHECK(scaled.at(7, 100) == integers.at(7, 100) * scales[7]);
  CHECK(scaled.at(44, 149) == integers.at(44, 149) * scales[44]);

  const auto product_and_scale = [&](index_t first, index_t count, const std::vector<float>& x, index_t rows) {
    std::vector<float> y = chains(integers.row_slice(first, count), x, rows);
    for (index_t i = 0; i < y.size(); ++i) y[i] *= scales[first + i % count];
    return y;
  };
  for (const index_t rows : {1, 9, 40}) {
    const std::vector<float> x = random_floats(rows * inputs, 28);
    CHECK(first_difference(product(Linear(scaled), x, rows), product_and_scale(0, outputs, x, rows)) == rows * outputs);
    CHECK(first_difference(product(Linear(scaled.row_slice(7, 36)), x, rows), product_and_scale(7, 36, x, rows)) == rows * 36);
  }
  CHECK(scaled.row_slice(7, 36).at(1, 3) == scaled.at(8, 3));
  CHECK_THROWS_AS(scaled.transposed(), std::invalid_argument);
  MatrixView wrong = Weights(DType::bf16, 4, 4).matrix;
  wrong.row_scales = scales.data();
  CHECK_THROWS_AS(Linear(wrong), std::invalid_argument);
}

TEST_CASE("linear: rounding is off by half a scale at most, and knows no other rows", "[linear]") {
  const Weights weights(GENERATE(DType::f32, DType::bf16, DType::f16), 70, 300);
  const RoundedMatrix rounded = rounded_to_i8(weights.matrix);
  for (index_t i = 0; i < 70; ++i) {
    float largest = 0;
    int largest_integer = 0;
    for (index_t j = 0; j < 300; ++j) {
      const double value = weights.matrix.at(i, j), scale = rounded.scales[i];
      const int integer = rounded.values[i * 300 + j];
      largest = std::max(largest, std::abs(weights.matrix.at(i, j)));
      largest_integer = std::max(largest_integer, std::abs(integer));
      REQUIRE(std::abs(integer * scale - value) <= 0.5 * scale * (1 + 1e-5));  // the quotient is rounded to f32
    }
    REQUIRE(rounded.scales[i] == largest / 127);
    REQUIRE(largest_integer == 127);
  }
  const RoundedMatrix slice = rounded_to_i8(weights.matrix.row_slice(33, 20));
  CHECK(std::equal(slice.values.begin(), slice.values.end(), rounded.values.begin() + 33 * 300));
  CHECK(std::equal(slice.scales.begin(), slice.scales.end(), rounded.scales.begin() + 33));
}

TEST_CASE("linear: halves are rounded to even", "[linear]") {
  const Tensor<2> row{{127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 3.4f}};
  CHECK(rounded_to_i8(view(row)).values == std::vector<std::int8_t>{127, 0, 2, 2, 0, -2, -2, 3});
  CHECK(rounded_to_i8(view(row)).scales == std::vector<float>{1.0f});
}

TEST_CASE("linear: a weight that is not a number is refused, with its row", "[linear]") {
  const DType type = GENERATE(DType::f32, DType::bf16, DType::f16, DType::f8_e4m3);
  Weights weights(type, 70, 40);
  weights.matrix.where = "m.safetensors: tensor 'x'";
  const MatrixView slice = weights.matrix.row_slice(5, 65), across = weights.matrix.transposed();
  std::memset(weights.bytes.data() + (67 * 40 + 9) * element_size(type), 0xff, element_size(type));
  CHECK_NOTHROW(Linear(weights.matrix.row_slice(0, 67)));
  const std::string end = " that is not finite; the file is damaged: download it again";
  CHECK_THROWS_WITH(Linear(weights.matrix), "m.safetensors: tensor 'x' has a weight in row 67" + end);
  CHECK_THROWS_WITH(Linear(slice), "m.safetensors: tensor 'x' has a weight in row 62" + end);
  CHECK_THROWS_WITH(Linear(across), "m.safetensors: tensor 'x' has a weight in row 9" + end);
}

TEST_CASE("linear: rounding to 8-bit integers", "[linear]") {
  const index_t outputs = 70, inputs = 300;
  Weights weights(DType::f32, outputs, inputs);
  for (index_t i = 0; i < inputs; ++i) weights.put(DType::f32, 5 * inputs + i, 0.0f);
  const Linear quantised = Linear::quantised(weights.matrix);
  CHECK(quantised.type() == DType::i8);
  CHECK(quantised.bytes() < 96 * inputs + 4096);

  for (const index_t rows : {1, 5, 40}) {
    const std::vector<float> x = random_floats(rows * inputs, 27);
    std::vector<float> expected;
    for (index_t n = 0; n < rows; ++n)
      for (index_t o = 0; o < outputs; ++o) {
        float largest = 0, sum = 0;
        for (index_t i = 0; i < inputs; ++i) largest = std::max(largest, std::abs(weights.matrix.at(o, i)));
        const float scale = largest / 127;
        for (index_t i = 0; i < inputs; ++i)
          sum = std::fma(x[n * inputs + i], scale == 0 ? 0 : std::nearbyint(weights.matrix.at(o, i) / scale), sum);
        expected.push_back(sum * scale);
      }
    for (const InstructionSet set : available_instruction_sets()) {
      const Machine machine(set, 2);
      CAPTURE(rows, name(set));
      CHECK(first_difference(product(quantised, x, rows), expected) == expected.size());
    }
  }
  weights.put(DType::f32, 9, INFINITY);
  CHECK_THROWS_AS(Linear::quantised(weights.matrix), std::invalid_argument);
}
