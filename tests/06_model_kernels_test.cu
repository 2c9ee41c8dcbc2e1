/// @file
/// Every kernel of the model against its formula in double precision: fresh random inputs, odd sizes, memory that is NaN
/// until somebody writes it. The same tests run on the CPU runtime and on a GPU.
#include <cmath>
#include <limits>
#include <numeric>

#include "chapters/06_cuda_kernels/model/attend.hpp"
#include "chapters/06_cuda_kernels/model/embed.hpp"
#include "chapters/06_cuda_kernels/model/flash.hpp"
#include "chapters/06_cuda_kernels/model/layer.hpp"
#include "chapters/06_cuda_kernels/model/library_product.hpp"
#include "chapters/06_cuda_kernels/model/linear.hpp"
#include "chapters/06_cuda_kernels/model/norm.hpp"
#include "chapters/06_cuda_kernels/model/rope.hpp"
#include "chapters/06_cuda_kernels/model/route.hpp"
#include "chapters/06_cuda_kernels/model/sample.hpp"
#include "common/model/sampler.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/random.hpp"

using namespace kv::cuda;
using kv::index_t;
using kv::RoutingRule;
using kv::test::random_floats;

namespace {

constexpr float missing = std::numeric_limits<float>::quiet_NaN();
constexpr cudaStream_t in_order = nullptr;
constexpr double f32 = 2e-6;    // relative to the largest: f32 sums of up to 1000 terms
constexpr double split = 2e-5;  // bf16 + bf16 hold 16 bits of an f32

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

template <class T>
Buffer<T> on_device(const std::vector<T>& host) {
  return Buffer<T>(std::span<const T>(host));
}
/// NaN, so that what is not written shows.
Buffer<float> poisoned(std::size_t size) { return on_device(Floats(size, missing)); }

/// Empty when all are within tolerance * (the largest expected). NaN in `expected`: must be NaN still.
std::string difference(const Floats& found, const Doubles& expected, double tolerance) {
  if (found.size() != expected.size()) return "size " + std::to_string(found.size()) + ", expected " + std::to_string(expected.size());
  double largest = 0.0;
  for (const double value : expected)
    if (!std::isnan(value)) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < found.size(); ++i) {
    const bool good = std::isnan(expected[i]) ? std::isnan(found[i]) : std::abs(found[i] - expected[i]) <= tolerance * largest;
    if (!good)
      return "at " + std::to_string(i) + ": " + std::to_string(found[i]) + ", expected " + std::to_string(expected[i]) +
             ", largest " + std::to_string(largest);
  }
  return "";
}

/// Random weights on the device and, exactly the same, in double precision.
struct TestMatrix {
  Floats values;
  Matrix matrix;
  TestMatrix(kv::DType type, index_t rows, index_t columns, unsigned seed) : values(random_floats(rows * columns, seed)) {
    if (type == kv::DType::f32) {
      matrix = Matrix{kv::MatrixView{values.data(), type, rows, columns, columns, 1}};
      return;
    }
    std::vector<std::uint16_t> narrow;
    for (float& value : values) {
      narrow.push_back(type == kv::DType::bf16 ? kv::to_bf16(value) : kv::to_f16(value));
      value = type == kv::DType::bf16 ? kv::from_bf16(narrow.back()) : kv::from_f16(narrow.back());
    }
    matrix = Matrix{kv::MatrixView{narrow.data(), type, rows, columns, columns, 1}};
  }
};

/// Rows `stride` apart with NaN between them.
Floats with_gaps(const Floats& values, int rows, int width, int stride) {
  Floats result(std::size_t(rows) * stride, missing);
  for (int n = 0; n < rows; ++n) std::copy_n(values.begin() + n * width, width, result.begin() + n * stride);
  return result;
}

double dot(const float* a, const float* b, int count) {
  double sum = 0.0;
  for (int i = 0; i < count; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

// ---- sequences and caches ----

/// Rows of several sequences, on both sides.
struct TestTokens {
  std::vector<int> ids, sequences, positions;
  Buffer<int> device_ids, device_sequences, device_positions;
  TestTokens(std::vector<int> sequence_of_row, std::vector<int> position_of_row)
      : ids(sequence_of_row.size()), sequences(std::move(sequence_of_row)), positions(std::move(position_of_row)),
        device_ids(on_device(ids)), device_sequences(on_device(sequences)), device_positions(on_device(positions)) {}
  int count() const { return static_cast<int>(ids.size()); }
  Tokens view() const { return {device_ids.data(), device_sequences.data(), device_positions.data(), count()}; }
};

/// Three sequences, one row of each and one more of the last; positions as they might be in a decode step.
TestTokens four_rows() { return {{2, 0, 1, 1}, {0, 41, 6, 7}}; }

struct TestRope {
  int width;
  Floats cos, sin;
  Buffer<float> device_cos, device_sin;
  TestRope(int rope_width, int capacity, unsigned seed)
      : width(rope_width), cos(random_floats(index_t(capacity) * rope_width / 2, seed)),
        sin(random_floats(index_t(capacity) * rope_width / 2, seed + 1)), device_cos(on_device(cos)), device_sin(on_device(sin)) {}
  RopeRows view() const { return {device_cos.data(), device_sin.data(), width}; }
  /// The complex number that pair i is multiplied by.
  std::pair<double, double> turn(int position, int i) const { return {cos[position * width / 2 + i], sin[position * width / 2 + i]}; }
};

constexpr int cache_sequences = 3, cache_tokens = 50;

struct TestCache {
  int width;
  Buffer<float> memory;
  explicit TestCache(int row_width) : width(row_width), memory(poisoned(std::size_t(cache_sequences) * cache_tokens * row_width)) {}
  CacheRows view() { return {memory.data(), std::size_t(cache_tokens) * width, width}; }
  static std::size_t place(int sequence, int position, int width) { return (std::size_t(sequence) * cache_tokens + position) * width; }
};

Doubles normed(const float* x, int width, const float* weight, double epsilon) {
  const double factor = 1.0 / std::sqrt(dot(x, x, width) / width + epsilon);
  Doubles result;
  for (int i = 0; i < width; ++i) result.push_back(x[i] * factor * weight[i]);
  return result;
}

template <class Values>
void turn_half_split(const TestRope& rope, int position, const Values& from, double* to) {
  for (int i = 0; i < rope.width / 2; ++i) {
    const auto [cos, sin] = rope.turn(position, i);
    const double a = from[i], b = from[i + rope.width / 2];
    to[i] = a * cos - b * sin;
    to[i + rope.width / 2] = a * sin + b * cos;
  }
}
template <class Values>
void turn_interleaved(const TestRope& rope, int position, const Values& from, double* to) {
  for (int i = 0; i < rope.width / 2; ++i) {
    const auto [cos, sin] = rope.turn(position, i);
    const double a = from[2 * i], b = from[2 * i + 1];
    to[2 * i] = a * cos - b * sin;
    to[2 * i + 1] = a * sin + b * cos;
  }
}

}  // namespace

// ---- linear layers ---------------------------------------------------------------------------------------------------

TEST_CASE("linear: every kernel, every format, odd sizes", "[model-kernels]") {
  const auto [outputs, inputs] = GENERATE(table<int, int>({{1, 1}, {7, 13}, {67, 129}, {33, 1030}, {16, 8}}));
  const int rows = GENERATE(1, 2, 3, 8, 9, 66);
  const kv::DType type = GENERATE(kv::DType::f32, kv::DType::bf16);
  CAPTURE(outputs, inputs, rows, name(type));
  const TestMatrix weights(type, outputs, inputs, 1 + rows);
  const Floats x = random_floats(index_t(rows) * inputs, 2 + rows);
  const int x_stride = inputs + 3, y_stride = outputs + 2;
  const Buffer<float> device_x = on_device(with_gaps(x, rows, inputs, x_stride));
  Buffer<float> y = poisoned(std::size_t(rows) * y_stride);
  linear(weights.matrix, {device_x.data(), x_stride}, rows, {y.data(), y_stride}, in_order);
  Doubles expected(std::size_t(rows) * y_stride, missing);
  for (int n = 0; n < rows; ++n)
    for (int o = 0; o < outputs; ++o) expected[n * y_stride + o] = dot(&x[n * inputs], &weights.values[o * inputs], inputs);
  CHECK(difference(y.download(), expected, type == kv::DType::f32 || rows <= few_rows ? f32 : split) == "");
}

TEST_CASE("linear: no rows is no work, and f16 is widened", "[model-kernels]") {
  const TestMatrix weights(kv::DType::f16, 5, 11, 3);
  CHECK(weights.matrix.format() == Format::f32);
  const Floats x = random_floats(11, 4);
  const Buffer<float> device_x = on_device(x);
  Buffer<float> y = poisoned(5);
  linear(weights.matrix, {device_x.data(), 11}, 0, {y.data(), 5}, in_order);
  CHECK(std::isnan(y.download()[0]));
  linear(weights.matrix, {device_x.data(), 11}, 1, {y.data(), 5}, in_order);
  Doubles expected;
  for (int o = 0; o < 5; ++o) expected.push_back(dot(x.data(), &weights.values[o * 11], 11));
  CHECK(difference(y.download(), expected, f32) == "");
}

TEST_CASE("matrices of one input become one, also transposed slices", "[model-kernels]") {
  const Floats a = random_floats(3 * 5, 5), b = random_floats(5 * 4, 6);
  const Matrix both{kv::MatrixView{a.data(), kv::DType::f32, 3, 5, 5, 1}, kv::MatrixView{b.data(), kv::DType::f32, 5, 4, 4, 1}.transposed()};
  REQUIRE(both.rows() == 7);
  const Floats x = random_floats(5, 7);
  const Buffer<float> device_x = on_device(x);
  Buffer<float> y = poisoned(7);
  linear(both, {device_x.data(), 5}, 1, {y.data(), 7}, in_order);
  Doubles expected;
  for (int o = 0; o < 3; ++o) expected.push_back(dot(x.data(), &a[o * 5], 5));
  for (int j = 0; j < 4; ++j) {
    double sum = 0.0;
    for (int i = 0; i < 5; ++i) sum += static_cast<double>(x[i]) * b[i * 4 + j];
    expected.push_back(sum);
  }
  CHECK(difference(y.download(), expected, f32) == "");
  CHECK_THROWS_AS((Matrix{kv::MatrixView{a.data(), kv::DType::f32, 3, 5, 5, 1}, kv::MatrixView{b.data(), kv::DType::f32, 5, 4, 4, 1}}),
                  kv::ShapeError);
}

TEST_CASE("biases are added to what has been multiplied, part by part", "[model-kernels]") {
  const int rows = GENERATE(1, 9, 70);
  const Floats a = random_floats(3 * 5, 5), b = random_floats(4 * 5, 6), bias = random_floats(4, 8), x = random_floats(rows * 5, 7);
  const kv::MatrixView first{a.data(), kv::DType::f32, 3, 5, 5, 1}, second{b.data(), kv::DType::f32, 4, 5, 5, 1};
  const Matrix without{first, second}, with{first, {second, bias.data()}};
  CHECK(without.bias() == nullptr);
  const Buffer<float> device_x = on_device(x);
  Buffer<float> y = poisoned(rows * 8), z = poisoned(rows * 8);
  linear(without, {device_x.data(), 5}, rows, {y.data(), 8}, in_order);
  linear(with, {device_x.data(), 5}, rows, {z.data(), 8}, in_order);
  const Floats plain = y.download(), biased = z.download();
  for (int n = 0; n < rows; ++n)
    for (int o = 0; o < 7; ++o) CHECK(biased[n * 8 + o] == plain[n * 8 + o] + (o < 3 ? 0.0f : bias[o - 3]));
}

TEST_CASE("linear_heads: every head its own columns and its own weights", "[model-kernels]") {
  const int rows = GENERATE(1, 4, 21);
  const kv::DType type = GENERATE(kv::DType::f32, kv::DType::bf16);
  CAPTURE(rows, name(type));
  const int heads = 3, outputs = 37, inputs = 19, x_step = 25, y_step = 40;
  const TestMatrix weights(type, heads * outputs, inputs, 8);
  const Floats x = random_floats(index_t(rows) * heads * x_step, 9);
  const Buffer<float> device_x = on_device(x);
  Buffer<float> y = poisoned(std::size_t(rows) * heads * y_step);
  const HeadGroups groups{.rows = rows, .outputs = outputs, .x_step = x_step, .y_step = y_step};
  linear_heads(weights.matrix, heads, RowsIn{device_x.data(), heads * x_step}, RowsOut{y.data(), heads * y_step}, groups, in_order);
  Doubles expected(std::size_t(rows) * heads * y_step, missing);
  for (int n = 0; n < rows; ++n)
    for (int h = 0; h < heads; ++h)
      for (int o = 0; o < outputs; ++o)
        expected[(n * heads + h) * y_step + o] = dot(&x[(n * heads + h) * x_step], &weights.values[(h * outputs + o) * inputs], inputs);
  CHECK(difference(y.download(), expected, rows <= few_rows || type == kv::DType::f32 ? f32 : split) == "");

  // Into bf16: the same sums, rounded. Out of bf16: the same sums of what rounding has left.
  Buffer<bf16> narrow_y(y.size());
  linear_heads(weights.matrix, heads, RowsIn{device_x.data(), heads * x_step}, Rows<bf16>{narrow_y.data(), heads * y_step}, groups, in_order);
  const Floats wide = y.download();
  const std::vector<bf16> narrow = narrow_y.download();
  for (std::size_t i = 0; i < wide.size(); ++i)
    if (!std::isnan(wide[i])) CHECK(narrow[i].bits == to_bf16(wide[i]).bits);
  std::vector<bf16> narrow_x;
  Floats rounded_x;
  for (const float value : x) narrow_x.push_back(to_bf16(value)), rounded_x.push_back(to_float(narrow_x.back()));
  const Buffer<bf16> device_narrow = on_device(narrow_x);
  const Buffer<float> device_rounded = on_device(rounded_x);
  Buffer<float> from_narrow = poisoned(y.size()), from_rounded = poisoned(y.size());
  linear_heads(weights.matrix, heads, Rows<const bf16>{device_narrow.data(), heads * x_step}, RowsOut{from_narrow.data(), heads * y_step}, groups, in_order);
  linear_heads(weights.matrix, heads, RowsIn{device_rounded.data(), heads * x_step}, RowsOut{from_rounded.data(), heads * y_step}, groups, in_order);
  const Floats a = from_narrow.download(), b = from_rounded.download();
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!std::isnan(b[i])) CHECK(a[i] == Approx(b[i]).epsilon(1e-6).margin(1e-6));
}

// ---- norms, gathers, elementwise -------------------------------------------------------------------------------------

TEST_CASE("rms_norm, with and without the residual sum", "[model-kernels]") {
  const int width = GENERATE(1, 33, 300), rows = 3;
  CAPTURE(width);
  const double epsilon = 1e-3;  // large enough to show
  const Floats x = random_floats(index_t(rows) * width, 10), delta = random_floats(index_t(rows) * width, 11), weight = random_floats(width, 12);
  const Buffer<float> device_weight = on_device(weight), device_delta = on_device(delta);
  const Norm norm{device_weight.data(), width, static_cast<float>(epsilon)};

  const int stride = width + 4;
  Buffer<float> in_place = on_device(with_gaps(x, rows, width, stride));
  rms_norm(norm, {in_place.data(), stride}, rows, {in_place.data(), stride}, in_order);
  Doubles expected(std::size_t(rows) * stride, missing);
  for (int n = 0; n < rows; ++n) {
    const Doubles row = normed(&x[n * width], width, weight.data(), epsilon);
    std::copy(row.begin(), row.end(), expected.begin() + n * stride);
  }
  CHECK(difference(in_place.download(), expected, f32) == "");

  Buffer<float> device_x = on_device(x), y = poisoned(x.size());
  add_rms_norm(norm, device_x.data(), {device_delta.data()}, rows, y.data(), in_order);
  Floats sum(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) sum[i] = x[i] + delta[i];
  CHECK(device_x.download() == sum);
  Doubles sum_normed;
  for (int n = 0; n < rows; ++n)
    for (const double value : normed(&sum[n * width], width, weight.data(), epsilon)) sum_normed.push_back(value);
  CHECK(difference(y.download(), sum_normed, f32) == "");
}

TEST_CASE("embeddings and wanted rows are copied, widened", "[model-kernels]") {
  const kv::DType type = GENERATE(kv::DType::f32, kv::DType::bf16);
  const TestMatrix table(type, 9, 133, 13);
  const std::vector<int> ids{8, 0, 3, 8};
  const Buffer<int> device_ids = on_device(ids);
  Buffer<float> x = poisoned(4 * 133), y = poisoned(2 * 133);
  embed(table.matrix, {device_ids.data(), nullptr, nullptr, 4}, x.data(), in_order);
  Floats expected;
  for (const int id : ids) expected.insert(expected.end(), table.values.begin() + id * 133, table.values.begin() + (id + 1) * 133);
  CHECK(x.download() == expected);
  const Buffer<int> wanted = on_device(std::vector<int>{2, 1});
  gather_rows(x.data(), 133, wanted.data(), 2, y.data(), in_order);
  Floats two(expected.begin() + 2 * 133, expected.begin() + 3 * 133);
  two.insert(two.end(), expected.begin() + 133, expected.begin() + 2 * 133);
  CHECK(y.download() == two);
}

TEST_CASE("gated_linear: silu of a gate times its partner, with biases", "[model-kernels]") {
  const int rows = GENERATE(1, 5, 21, 70), width = GENERATE(1, 67), inputs = 13;
  const kv::DType type = GENERATE(kv::DType::f32, kv::DType::bf16);
  CAPTURE(rows, width, name(type));
  const Floats x = random_floats(index_t(rows) * inputs, 14), bias = random_floats(2 * width, 15);
  const TestMatrix both(type, 2 * width, inputs, 16);
  const Matrix weights{kv::LinearView(kv::MatrixView{both.values.data(), kv::DType::f32, index_t(2 * width), inputs, inputs, 1}, bias.data())};
  const Buffer<float> device_x = on_device(x);
  Buffer<float> y = poisoned(std::size_t(rows) * width), biased = poisoned(std::size_t(rows) * width);
  gated_linear(both.matrix, {device_x.data(), inputs}, rows, {y.data(), width}, in_order);
  gated_linear(weights, {device_x.data(), inputs}, rows, {biased.data(), width}, in_order);
  Doubles expected, expected_biased;
  for (int n = 0; n < rows; ++n)
    for (int f = 0; f < width; ++f) {
      const auto sum = [&](int o) { return dot(&x[n * inputs], &both.values[o * inputs], inputs); };
      const auto gated = [](double gate, double partner) { return gate / (1.0 + std::exp(-gate)) * partner; };
      expected.push_back(gated(sum(2 * f), sum(2 * f + 1)));
      expected_biased.push_back(gated(sum(2 * f) + bias[2 * f], sum(2 * f + 1) + bias[2 * f + 1]));
    }
  CHECK(difference(y.download(), expected, type == kv::DType::f32 || rows <= few_rows ? f32 : split) == "");
  CHECK(difference(biased.download(), expected_biased, f32) == "");
}

TEST_CASE("cuBLASLt: the same products for a prompt, plain and gated", "[model-kernels]") {
  if (!has_library_product()) {
    WARN("skipped: built without cuBLASLt, which needs a GPU");
    return;
  }
  const int rows = GENERATE(65, 300), outputs = GENERATE(66, 258), inputs = GENERATE(13, 136);
  CAPTURE(rows, outputs, inputs);
  const TestMatrix weights(kv::DType::bf16, outputs, inputs, 32);
  const Floats x = random_floats(index_t(rows) * (inputs + 3), 33);
  const Buffer<float> device_x = on_device(x);
  const RowsIn x_rows{device_x.data(), inputs + 3};
  Buffer<float> y = poisoned(std::size_t(rows) * (outputs + 6)), gated = poisoned(std::size_t(rows) * outputs / 2);
  library_linear(weights.matrix, x_rows, rows, {y.data(), outputs + 6}, in_order);
  library_gated_linear(weights.matrix, x_rows, rows, {gated.data(), outputs / 2}, in_order);
  Doubles expected(y.size(), missing), expected_gated;
  for (int n = 0; n < rows; ++n) {
    double* sums = &expected[std::size_t(n) * (outputs + 6)];
    for (int o = 0; o < outputs; ++o) sums[o] = dot(&x[n * (inputs + 3)], &weights.values[o * inputs], inputs);
    for (int o = 0; o < outputs; o += 2) expected_gated.push_back(sums[o] / (1.0 + std::exp(-sums[o])) * sums[o + 1]);
  }
  CHECK(difference(y.download(), expected, split) == "");
  CHECK(difference(gated.download(), expected_gated, split) == "");
}

// ---- rotation and caches ---------------------------------------------------------------------------------------------

TEST_CASE("append_heads: norm, half-split rotation, and only the rows that were meant", "[model-kernels]") {
  const bool norms = GENERATE(false, true);
  const int H = 6, G = 2, D = GENERATE(2, 10, 70), W = 7, stride = H * D + G * (D + W);
  CAPTURE(norms, D);
  const double epsilon = 1e-3;
  const TestTokens tokens = four_rows();
  const TestRope rope(D, cache_tokens, 15);
  const Floats heads = random_floats(index_t(tokens.count()) * stride, 16), query_norm = random_floats(D, 17), key_norm = random_floats(D, 18);
  const Buffer<float> device_query_norm = on_device(query_norm), device_key_norm = on_device(key_norm);
  Buffer<float> device_heads = on_device(heads);
  TestCache keys(G * D), values(G * W);
  append_heads<float>({.heads = device_heads.data(), .query_heads = H, .key_value_heads = G, .key_width = D, .value_width = W,
                .query_norm = norms ? device_query_norm.data() : nullptr, .key_norm = norms ? device_key_norm.data() : nullptr,
                .norm_epsilon = static_cast<float>(epsilon), .rope = rope.view(), .tokens = tokens.view(), .keys = keys.view(),
                .values = values.view()},
               in_order);
  Doubles queries, found_queries, expected_keys(keys.memory.size(), missing), expected_values(values.memory.size(), missing);
  const Floats after = device_heads.download();
  for (int n = 0; n < tokens.count(); ++n) {
    const float* row = &heads[n * stride];
    const int s = tokens.sequences[n], p = tokens.positions[n];
    for (int h = 0; h < H + G; ++h) {
      const Floats& weight = h < H ? query_norm : key_norm;
      const Doubles head = norms ? normed(row + h * D, D, weight.data(), epsilon) : Doubles(row + h * D, row + h * D + D);
      Doubles turned(D);
      turn_half_split(rope, p, head, turned.data());
      if (h < H)
        queries.insert(queries.end(), turned.begin(), turned.end());
      else
        std::copy(turned.begin(), turned.end(), expected_keys.begin() + TestCache::place(s, p, G * D) + (h - H) * D);
    }
    found_queries.insert(found_queries.end(), after.begin() + n * stride, after.begin() + n * stride + H * D);
    std::copy_n(row + (H + G) * D, G * W, expected_values.begin() + TestCache::place(s, p, G * W));
  }
  CHECK(difference(Floats(found_queries.begin(), found_queries.end()), queries, f32) == "");
  CHECK(difference(keys.memory.download(), expected_keys, f32) == "");
  CHECK(difference(values.memory.download(), expected_values, 0.0) == "");
}

TEST_CASE("latents: norm, interleaved rotation, to the cache and to rows; queries turned on the way", "[model-kernels]") {
  const int R = GENERATE(5, 130), P = GENERATE(2, 12), stride = R + P + 9, H = 3, D = P + 6, to_head = R + P;
  CAPTURE(R, P);
  const TestTokens tokens = four_rows();
  const int N = tokens.count();
  const TestRope rope(P, cache_tokens, 19);
  const Floats compressed = random_floats(index_t(N) * stride, 20), weight = random_floats(R, 21), queries = random_floats(index_t(N) * H * D, 25);
  const Buffer<float> device = on_device(compressed), device_weight = on_device(weight);
  Buffer<float> in_place = on_device(queries), turned = poisoned(std::size_t(N) * H * to_head);
  const Latents latents{{device.data() + 9, stride}, {device_weight.data(), R, 1e-3f}, rope.view(), tokens.view(), {in_place.data() + 6, H * D}, H, D};
  TestCache cache(R + P);
  Buffer<float> rows = poisoned(std::size_t(N) * (R + P));
  append_latents(latents, cache.view(), TurnedQueries<float>{turned.data() + R, H * to_head, to_head}, in_order);
  make_latents(latents, rows.data(), {in_place.data() + 6, H * D, D}, in_order);
  Doubles expected_rows, expected_cache(cache.memory.size(), missing), expected_turned(turned.size(), missing), expected_queries(queries.begin(), queries.end());
  for (int n = 0; n < N; ++n) {
    const int position = tokens.positions[n];
    const float* from = &compressed[n * stride + 9];
    Doubles row = normed(from, R, weight.data(), 1e-3);
    row.resize(R + P);
    turn_interleaved(rope, position, from + R, row.data() + R);
    expected_rows.insert(expected_rows.end(), row.begin(), row.end());
    std::copy(row.begin(), row.end(), expected_cache.begin() + TestCache::place(tokens.sequences[n], position, R + P));
    for (int h = 0; h < H; ++h) {
      const int head = n * H + h;
      turn_interleaved(rope, position, &queries[head * D + 6], &expected_turned[head * to_head + R]);
      turn_interleaved(rope, position, &queries[head * D + 6], &expected_queries[head * D + 6]);
    }
  }
  CHECK(difference(rows.download(), expected_rows, f32) == "");
  CHECK(difference(cache.memory.download(), expected_cache, f32) == "");
  CHECK(difference(turned.download(), expected_turned, f32) == "");
  CHECK(difference(in_place.download(), expected_queries, f32) == "");
}

TEST_CASE("expanded keys and values", "[model-kernels]") {
  const int H = 3, plain = 6, P = 4, W = 5, R = 8, D = plain + P;
  const TestTokens tokens = four_rows();
  const int N = tokens.count();
  const Floats expanded = random_floats(index_t(N) * H * (plain + W), 22), latents = random_floats(index_t(N) * (R + P), 23);
  const Buffer<float> device_expanded = on_device(expanded), device_latents = on_device(latents);
  TestCache keys(H * D), values(H * W);
  append_expanded<float>({.expanded = device_expanded.data(), .latents = device_latents.data(), .heads = H, .plain_width = plain,
                   .rope_width = P, .value_width = W, .rank = R, .tokens = tokens.view(), .keys = keys.view(), .values = values.view()},
                  in_order);
  Doubles expected_keys(keys.memory.size(), missing), expected_values(values.memory.size(), missing);
  for (int n = 0; n < N; ++n)
    for (int h = 0; h < H; ++h) {
      const float* both = &expanded[(n * H + h) * (plain + W)];
      const std::size_t key = TestCache::place(tokens.sequences[n], tokens.positions[n], H * D) + h * D;
      std::copy_n(both, plain, expected_keys.begin() + key);
      std::copy_n(&latents[n * (R + P) + R], P, expected_keys.begin() + key + plain);
      std::copy_n(both + plain, W, expected_values.begin() + TestCache::place(tokens.sequences[n], tokens.positions[n], H * W) + h * W);
    }
  CHECK(difference(keys.memory.download(), expected_keys, 0.0) == "");
  CHECK(difference(values.memory.download(), expected_values, 0.0) == "");
}

// ---- attention -------------------------------------------------------------------------------------------------------

namespace {

struct AttendCase {
  int heads, groups, key_width, value_width;
};

/// A filled cache whose rows behind the last position of each sequence are NaN, queries, and what attention makes of them.
/// Numbers that bf16 has, so that a cache in either format holds the same.
struct TestAttention {
  AttendCase c;
  const TestTokens& tokens;
  bool shared;  // the values are the first numbers of the keys
  Floats keys, values, queries;
  float scale = 0.37f;
  Buffer<float> device_keys, device_values, device_queries;
  Buffer<bf16> narrow_keys, narrow_values;

  TestAttention(const AttendCase& sizes, const TestTokens& rows, bool values_in_keys, unsigned seed)
      : c(sizes), tokens(rows), shared(values_in_keys),
        keys(random_floats(index_t(cache_sequences) * cache_tokens * c.groups * c.key_width, seed)),
        values(random_floats(index_t(cache_sequences) * cache_tokens * c.groups * c.value_width, seed + 1)),
        queries(random_floats(index_t(rows.count()) * query_row(), seed + 2)) {
    for (Floats* numbers : {&keys, &values})
      for (float& number : *numbers) number = to_float(to_bf16(number));
    for (int s = 0; s < cache_sequences; ++s) {
      int end = 0;
      for (int n = 0; n < rows.count(); ++n)
        if (rows.sequences[n] == s) end = std::max(end, rows.positions[n] + 1);
      const int key_row = c.groups * c.key_width, value_row = c.groups * c.value_width;
      std::fill(keys.begin() + TestCache::place(s, end, key_row), keys.begin() + TestCache::place(s + 1, 0, key_row), missing);
      std::fill(values.begin() + TestCache::place(s, end, value_row), values.begin() + TestCache::place(s + 1, 0, value_row), missing);
    }
    device_keys = on_device(keys), device_values = on_device(values), device_queries = on_device(queries);
    narrow_keys = narrowed(keys), narrow_values = narrowed(values);
  }
  static Buffer<bf16> narrowed(const Floats& numbers) {
    std::vector<bf16> result;
    for (const float number : numbers) result.push_back(to_bf16(number));
    return on_device(result);
  }
  int query_row() const { return c.heads * c.key_width + 5; }

  template <class T = float>
  Attend<T> problem(int splits, Buffer<float>& partial, Buffer<float>& lse, Buffer<float>& output) {
    const std::size_t parts = std::size_t(tokens.count()) * c.heads * splits;
    partial = poisoned(parts * c.value_width), lse = poisoned(parts), output = poisoned(std::size_t(tokens.count()) * c.heads * c.value_width);
    const auto rows = [&](auto& wide, auto& narrow, int width) -> StoredRows<T> {
      if constexpr (std::is_same_v<T, float>)
        return {wide.data(), std::size_t(cache_tokens) * width, width};
      else
        return {narrow.data(), std::size_t(cache_tokens) * width, width};
    };
    const StoredRows<T> key_rows = rows(device_keys, narrow_keys, c.groups * c.key_width);
    const StoredRows<T> value_rows = rows(device_values, narrow_values, c.groups * c.value_width);
    return {.queries = device_queries.data(), .query_row = query_row(), .keys = key_rows, .values = shared ? key_rows : value_rows,
            .heads = c.heads, .groups = c.groups, .key_width = c.key_width, .value_width = c.value_width, .scale = scale,
            .tokens = tokens.view(), .splits = splits, .partial = partial.data(), .lse = lse.data(), .output = output.data()};
  }

  Doubles expected() const {
    Doubles result;
    for (int n = 0; n < tokens.count(); ++n)
      for (int h = 0; h < c.heads; ++h) {
        const int g = h / (c.heads / c.groups), visible = tokens.positions[n] + 1;
        Doubles weights;
        double sum = 0.0;
        for (int s = 0; s < visible; ++s) {
          const float* key = &keys[TestCache::place(tokens.sequences[n], s, c.groups * c.key_width) + g * c.key_width];
          weights.push_back(std::exp(scale * dot(&queries[std::size_t(n) * query_row() + h * c.key_width], key, c.key_width)));
          sum += weights.back();
        }
        for (int w = 0; w < c.value_width; ++w) {
          double value = 0.0;
          for (int s = 0; s < visible; ++s) {
            const float* row = shared ? &keys[TestCache::place(tokens.sequences[n], s, c.key_width)]
                                      : &values[TestCache::place(tokens.sequences[n], s, c.groups * c.value_width) + g * c.value_width];
            value += weights[s] / sum * row[w];
          }
          result.push_back(value);
        }
      }
    return result;
  }
};

}  // namespace

TEST_CASE("attend: multi-head, grouped, multi-query and absorbed, in any number of splits", "[model-kernels]") {
  const AttendCase c = GENERATE(AttendCase{4, 4, 10, 10}, AttendCase{6, 2, 8, 6}, AttendCase{5, 1, 34, 18}, AttendCase{20, 2, 32, 130},
                                AttendCase{1, 1, 2, 2});
  const bool shared = GENERATE(false, true);
  if (shared && (c.groups != 1 || c.value_width > c.key_width)) return;
  const int splits = GENERATE(1, 2, 5);
  CAPTURE(c.heads, c.groups, c.key_width, c.value_width, shared, splits);
  const TestTokens tokens = four_rows();
  TestAttention attention(c, tokens, shared, 26);
  Buffer<float> partial, lse, output;
  attend(attention.problem(splits, partial, lse, output), in_order);
  const Floats found = output.download();
  CHECK(difference(found, attention.expected(), f32 * 5) == "");
  attend(attention.problem<bf16>(splits, partial, lse, output), in_order);
  CHECK(output.download() == found);
}

TEST_CASE("attend: how many splits", "[model-kernels]") {
  CHECK(attend_splits(1, 16, 1, 32768, 132) == 128);   // as many as have 256 tokens each
  CHECK(attend_splits(1, 16, 16, 4096, 132) == 16);
  CHECK(attend_splits(32, 16, 16, 32768, 132) == 1);   // the rows alone fill the device
  CHECK(attend_splits(1, 6, 6, 20, 132) == 1);
  CHECK(attend_splits(1, 128, 1, 32768, 132) == 17);   // 16 tiles of heads
}

TEST_CASE("flash: prompts in tiles, beginning anywhere, against the formula", "[model-kernels]") {
  const AttendCase c = GENERATE(AttendCase{2, 2, 192, 128}, AttendCase{2, 1, 128, 128}, AttendCase{2, 1, 64, 64}, AttendCase{3, 3, 48, 32},
                                AttendCase{6, 2, 32, 32});
  CAPTURE(c.key_width, c.value_width);
  // Sequence 1: 44 rows from position 3 on; sequence 0: 9 rows from 0 on; sequence 2: one row at 40.
  std::vector<int> sequences, positions;
  const auto add = [&](int sequence, int first, int count) {
    for (int i = 0; i < count; ++i) sequences.push_back(sequence), positions.push_back(first + i);
  };
  add(1, 3, 44), add(0, 0, 9), add(2, 40, 1);
  const TestTokens tokens(sequences, positions);
  const std::vector<QueryTile> tiles{{1, 0, 31, 3}, {1, 31, 13, 34}, {0, 44, 9, 0}, {2, 53, 1, 40}};
  const Buffer<QueryTile> device_tiles = on_device(tiles);
  TestAttention attention(c, tokens, false, 30);
  attention.scale = 0.1f;
  Buffer<float> partial, lse, output;
  REQUIRE(flash_serves(c.key_width, c.value_width));
  const QueryTiles all{device_tiles.data(), static_cast<int>(tiles.size())};
  flash(attention.problem(1, partial, lse, output), all, in_order);
  const Floats found = output.download();
  CHECK(difference(found, attention.expected(), split * 2) == "");
  flash(attention.problem<bf16>(1, partial, lse, output), all, in_order);
  CHECK(output.download() == found);
}

TEST_CASE("flash says which widths it does not serve", "[model-kernels]") {
  CHECK_FALSE(flash_serves(576, 512));
  const TestTokens tokens = four_rows();
  TestAttention attention({1, 1, 6, 6}, tokens, false, 31);
  Buffer<float> partial, lse, output;
  const Buffer<QueryTile> tiles = on_device(std::vector<QueryTile>{{2, 0, 1, 0}});
  CHECK_THROWS_AS(flash(attention.problem(1, partial, lse, output), {tiles.data(), 1}, in_order), std::invalid_argument);
}

// ---- mixtures --------------------------------------------------------------------------------------------------------

namespace {

kv::Tensor<1> bias(index_t experts, unsigned seed) {
  kv::Tensor<1> result = kv::empty<1>({experts});
  const Floats values = random_floats(experts, seed, -6.0f, 1.0f);  // mostly negative: a masked 0 would win
  std::copy(values.begin(), values.end(), result.begin());
  return result;
}

struct TestPermutation {
  Buffer<int> offsets, active, token_of_row, row_of_visit;
  TestPermutation(int visits, int experts)
      : offsets(on_device(std::vector<int>(experts + 1, -9))), active(on_device(std::vector<int>(experts, -9))),
        token_of_row(on_device(std::vector<int>(visits, -9))), row_of_visit(on_device(std::vector<int>(visits, -9))) {}
  Permutation view() { return {offsets.data(), active.data(), token_of_row.data(), row_of_visit.data()}; }
};

/// What route() makes of some logits.
struct TestRoute {
  std::vector<int> experts;
  Floats weights;
  Buffer<int> device_experts;
  Buffer<float> device_weights;
  TestPermutation sorted;
  TestRoute(const Router& router, const Floats& logits, int rows)
      : device_experts(rows * router.all_chosen()), device_weights(poisoned(std::size_t(rows) * router.all_chosen())),
        sorted(rows * router.all_chosen(), router.all_experts()) {
    const Buffer<float> device_logits = on_device(logits);
    Buffer<unsigned> arrived = on_device(std::vector<unsigned>{0});
    route(router, device_logits.data(), rows, view(), sorted.view(), arrived.data(), in_order);
    CHECK(arrived.download()[0] == 0);
    experts = device_experts.download(), weights = device_weights.download();
  }
  Choices view() { return {device_experts.data(), device_weights.data()}; }
};

/// Random choices of K of E; the last expert of all is never chosen.
TestRoute random_route(int rows, int chosen, int count, unsigned seed) {
  const RoutingRule rule{.scores = RoutingRule::Scores::softmax_of_chosen, .experts = index_t(count), .chosen = index_t(chosen)};
  Floats logits = random_floats(index_t(rows) * count, seed);
  for (int n = 0; n < rows; ++n) logits[n * count + count - 1] = -9.0f;
  return TestRoute(router(rule, nullptr), logits, rows);
}

}  // namespace

TEST_CASE("route: every published rule chooses as chapter 5 does", "[model-kernels]") {
  using Scores = RoutingRule::Scores;
  const RoutingRule rule = GENERATE(
      RoutingRule{.scores = Scores::softmax_of_chosen, .experts = 8, .chosen = 2},
      RoutingRule{.scores = Scores::softmax, .experts = 70, .chosen = 6, .scaling = 1.7f},
      RoutingRule{.scores = Scores::softmax, .experts = 33, .chosen = 3, .normalised = true},
      RoutingRule{.scores = Scores::softmax, .experts = 160, .chosen = 6, .limit = {8, 3}, .scaling = 16.0f},
      RoutingRule{.scores = Scores::sigmoid_with_bias, .experts = 256, .chosen = 8, .limit = {8, 4}, .normalised = true, .scaling = 2.5f,
                  .bias = bias(256, 32)},
      RoutingRule{.scores = Scores::sigmoid_with_bias, .experts = 16, .chosen = 4, .limit = {4, 2}, .normalised = false, .scaling = 0.5f,
                  .bias = bias(16, 33)},
      RoutingRule{.scores = Scores::sigmoid_with_bias, .experts = 3, .chosen = 2, .limit = {3, 2}, .normalised = true, .bias = bias(3, 34)},
      RoutingRule{.scores = Scores::softmax, .experts = 1, .chosen = 1});
  const index_t N = 23, E = rule.experts, K = rule.chosen;
  CAPTURE(static_cast<int>(rule.scores), E, K);
  kv::Tensor<2> logits = kv::test::random_tensor<2>({N, E}, 35, -3.0f, 3.0f);
  for (index_t e = 0; e < E; ++e) logits(0, e) = 0.25f;                                 // all equal: the first
  for (index_t e = 0; e < E; ++e) logits(1, e) = static_cast<float>(e % 3);             // many equals
  const Buffer<float> device_bias(std::span<const float>(rule.bias.data(), rule.bias.size()));
  const TestRoute found(router(rule, rule.bias.size() ? device_bias.data() : nullptr), Floats(logits.begin(), logits.end()), static_cast<int>(N));
  const kv::Routing expected = make_router(rule)->route(logits);
  for (index_t n = 0; n < N; ++n)
    for (index_t k = 0; k < K; ++k) {
      CAPTURE(n, k);
      CHECK(found.experts[n * K + k] == static_cast<int>(expected[n][k].expert));
      CHECK(found.weights[n * K + k] == Approx(expected[n][k].weight).epsilon(1e-5));
    }
}

TEST_CASE("route: shared experts are visited by all, and count what their gate says", "[model-kernels]") {
  const RoutingRule rule{.scores = RoutingRule::Scores::softmax, .experts = 7, .chosen = 2};
  const bool gated = GENERATE(false, true);
  const int N = 5, E = 7, shared = 3, K = 2 + shared;
  const Floats logits = random_floats(N * (E + 1), 35, -3.0f, 3.0f);
  Floats without;  // the gate's number
  for (int n = 0; n < N; ++n) without.insert(without.end(), logits.begin() + n * (E + 1), logits.begin() + n * (E + 1) + E);
  Router with_shared = router(rule, nullptr, shared);
  with_shared.logits = gated ? E + 1 : E;
  const TestRoute found(with_shared, gated ? logits : without, N), routed(router(rule, nullptr), without, N);
  for (int n = 0; n < N; ++n)
    for (int k = 0; k < K; ++k) {
      CAPTURE(gated, n, k);
      CHECK(found.experts[n * K + k] == (k < 2 ? routed.experts[n * 2 + k] : E + k - 2));
      const double gate = gated ? 1.0 / (1.0 + std::exp(-static_cast<double>(logits[n * (E + 1) + E]))) : 1.0;
      CHECK(found.weights[n * K + k] == Approx(k < 2 ? routed.weights[n * 2 + k] : gate).epsilon(1e-6));
    }
}

TEST_CASE("route: damaged logits choose somebody and harm nobody", "[model-kernels]") {
  const RoutingRule rule{.scores = RoutingRule::Scores::sigmoid_with_bias, .experts = 12, .chosen = 3, .limit = {4, 2}, .bias = bias(12, 36)};
  const Buffer<float> device_bias(std::span<const float>(rule.bias.data(), 12));
  const std::vector<int> found = TestRoute(router(rule, device_bias.data()), Floats(12, missing), 1).experts;
  CHECK((0 <= found[0] && found[0] < found[1] && found[1] < found[2] && found[2] < 12));
}

TEST_CASE("visits sorted by expert, tokens ascending, and back", "[model-kernels]") {
  const int rows = GENERATE(1, 5, 90), E = GENERATE(5, 300), K = 3, M = 131;
  CAPTURE(rows, E);
  TestRoute routing = random_route(rows, K, E, 37);
  TestPermutation& sorted = routing.sorted;
  std::vector<int> offsets{0}, active, token_of_row, row_of_visit(rows * K);
  for (int e = 0; e < E; ++e) {
    for (int v = 0; v < rows * K; ++v)
      if (routing.experts[v] == e) {
        row_of_visit[v] = static_cast<int>(token_of_row.size());
        token_of_row.push_back(v / K);
      }
    offsets.push_back(static_cast<int>(token_of_row.size()));
    if (offsets[e + 1] > offsets[e]) active.push_back(e);
  }
  active.resize(E, -1);
  CHECK(sorted.offsets.download() == offsets);
  CHECK(sorted.active.download() == active);
  CHECK(sorted.token_of_row.download() == token_of_row);
  CHECK(sorted.row_of_visit.download() == row_of_visit);

  const Floats outputs = random_floats(index_t(rows) * K * M, 38), before = random_floats(index_t(rows) * M, 39), weight(M, 1.0f);
  const Buffer<float> device_outputs = on_device(outputs), device_weight = on_device(weight);
  Buffer<float> x = on_device(before), y = poisoned(x.size());
  add_rms_norm({device_weight.data(), M, 1e-3f}, x.data(),
               {.rows = device_outputs.data(), .visits = K, .weights = routing.device_weights.data(), .places = sorted.row_of_visit.data()}, rows,
               y.data(), in_order);
  Doubles expected, expected_normed;
  const Floats after = x.download();
  for (int n = 0; n < rows; ++n) {
    for (int m = 0; m < M; ++m) {
      double sum = before[n * M + m];
      for (int k = 0; k < K; ++k) sum += static_cast<double>(routing.weights[n * K + k]) * outputs[row_of_visit[n * K + k] * M + m];
      expected.push_back(sum);
    }
    const Doubles row = normed(&after[n * M], M, weight.data(), 1e-3);
    expected_normed.insert(expected_normed.end(), row.begin(), row.end());
  }
  CHECK(difference(after, expected, f32) == "");
  CHECK(difference(y.download(), expected_normed, f32) == "");
}

TEST_CASE("linear_experts: every expert its own rows, gathered or in place", "[model-kernels]") {
  const int rows = GENERATE(1, 3, 100), E = 5, K = 2, outputs = 37, inputs = 20;  // with 100 rows, some experts have more than 64 or fewer
  const kv::DType type = GENERATE(kv::DType::f32, kv::DType::bf16);
  const bool gathered = GENERATE(true, false);
  CAPTURE(rows, name(type), gathered);
  TestRoute routing = random_route(rows, K, E, 40);
  TestPermutation& sorted = routing.sorted;
  const TestMatrix weights(type, E * outputs, inputs, 41);
  const Floats x = random_floats(index_t(rows) * K * inputs, 42);
  const Buffer<float> device_x = on_device(x);
  Buffer<float> y = poisoned(std::size_t(rows) * K * outputs);
  linear_experts(weights.matrix, {device_x.data(), inputs}, {y.data(), outputs},
                 {.active = sorted.active.data(), .offsets = sorted.offsets.data(),
                  .token_of_row = gathered ? sorted.token_of_row.data() : nullptr, .outputs = outputs},
                 std::min(E, rows * K), rows, in_order);
  const std::vector<int> token_of_row = sorted.token_of_row.download(), offsets = sorted.offsets.download();
  Doubles expected;
  for (int e = 0; e < E; ++e)
    for (int r = offsets[e]; r < offsets[e + 1]; ++r)
      for (int o = 0; o < outputs; ++o)
        expected.push_back(dot(&x[(gathered ? token_of_row[r] : r) * inputs], &weights.values[(e * outputs + o) * inputs], inputs));
  CHECK(difference(y.download(), expected, rows <= few_rows || type == kv::DType::f32 ? f32 : split) == "");
}

// ---- the next token --------------------------------------------------------------------------------------------------

TEST_CASE("most_likely: the CPU's choice, and its way with ties", "[model-kernels]") {
  const int V = GENERATE(1, 7, 1000);
  Floats logits = random_floats(index_t(3) * V, 43);
  const float top = 9.0f;
  logits[V + V / 2] = logits[2 * V - 1] = top;                      // row 1: two equals
  std::fill(logits.begin() + 2 * V, logits.end(), -INFINITY);       // row 2: all but one are impossible
  logits[2 * V + V / 3] = -1e30f;
  const Buffer<float> device = on_device(logits);
  Buffer<int> ids(3), positions = on_device(std::vector<int>{4, 0, 7}), tokens = on_device(std::vector<int>(9, -1));
  const Buffer<int> first_positions = on_device(std::vector<int>{4, 0, 5});  // row 2 has come two steps further
  most_likely(device.data(), 3, V, {ids.data(), positions.data(), first_positions.data(), tokens.data()}, in_order);
  std::vector<int> expected;
  for (int n = 0; n < 3; ++n) expected.push_back(kv::most_likely({&logits[n * V], static_cast<std::size_t>(V)}));
  CHECK(ids.download() == expected);
  Buffer<int> last(3);
  most_likely(device.data(), 3, V, last.data(), in_order);
  CHECK(last.download() == expected);
  CHECK(positions.download() == std::vector<int>{5, 1, 8});
  CHECK(tokens.download() == std::vector<int>{expected[0], expected[1], -1, -1, -1, -1, -1, -1, expected[2]});
}

TEST_CASE("most_likely: what is no number chooses nobody, and the next step finds a token", "[model-kernels]") {
  const int V = 100;
  Floats logits = random_floats(index_t(4) * V, 44);
  logits[7] = missing, logits[V + 98] = INFINITY;
  std::fill(logits.begin() + 2 * V, logits.begin() + 3 * V, -INFINITY);
  logits[3 * V + 5] = -INFINITY, logits[3 * V + 6] = 9.0f;
  const Buffer<float> device = on_device(logits);
  Buffer<int> ids(4), positions = on_device(std::vector<int>(4, 0)), tokens(4), last(4);
  const Buffer<int> first_positions = on_device(std::vector<int>(4, 0));
  most_likely(device.data(), 4, V, {ids.data(), positions.data(), first_positions.data(), tokens.data()}, in_order);
  most_likely(device.data(), 4, V, last.data(), in_order);
  CHECK(tokens.download() == std::vector<int>{no_token, no_token, no_token, 6});
  CHECK(last.download() == tokens.download());
  CHECK(ids.download() == std::vector<int>{0, 0, 0, 6});
}

// ---- scratch ---------------------------------------------------------------------------------------------------------

TEST_CASE("scratch memory is given back, and refuses what it has not got", "[model-kernels]") {
  Scratch scratch(1024);
  float* first = nullptr;
  {
    const Scratch::Frame frame(scratch);
    first = scratch.take<float>(64);
    CHECK(scratch.take<float>(1) == first + 64);
    CHECK_THROWS_AS(scratch.take<float>(129), std::logic_error);
  }
  const Scratch::Frame frame(scratch);
  CHECK(scratch.take<float>(256) == first);
}
