// exp, softmax, swiglu, rms_norm: against double; exact between instruction sets and between positions in a row.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "common/tensor/exp.hpp"
#include "common/tensor/rms_norm.hpp"
#include "common/tensor/softmax.hpp"
#include "common/tensor/swiglu.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/instruction_sets.hpp"

using namespace kv;
using namespace kv::test;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

float exp_alone(float x) {
  kv::exp({&x, 1});
  return x;
}

/// Distance in units of the last place of `exact`.
double ulps(float found, double exact) {
  int exponent;
  std::frexp(exact, &exponent);
  return std::abs(found - exact) / std::ldexp(1.0, exponent - 24);
}

Tensor<2> matrix(index_t rows, index_t columns, unsigned seed, float low, float high) {
  Tensor<2> x = empty<2>({rows, columns});
  const std::vector<float> values = random_floats(rows * columns, seed, low, high);
  std::copy(values.begin(), values.end(), x.data());
  return x;
}

}  // namespace

TEST_CASE("exp: within 1.03 ulp over the whole range", "[elementwise]") {
  // Every 997th float from -87.33 to 88.72: sums of bit patterns step through all exponents.
  std::vector<float> x;
  for (std::uint32_t bits = 0; bits <= std::bit_cast<std::uint32_t>(88.72283f); bits += 997) {
    x.push_back(std::bit_cast<float>(bits));
    if (x.back() < 87.3365f) x.push_back(-x.back());
  }
  std::vector<float> first;
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    std::vector<float> y = x;
    kv::exp(y);
    if (first.empty()) first = y;
    REQUIRE(first_difference(y, first) == y.size());
  }
  double worst = 0;
  for (index_t i = 0; i < x.size(); ++i) worst = std::max(worst, ulps(first[i], std::exp(static_cast<double>(x[i]))));
  CHECK(worst < 1.03);
}

TEST_CASE("exp: limits", "[elementwise]") {
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    CAPTURE(name(set));
    CHECK(exp_alone(0.0f) == 1.0f);
    CHECK(exp_alone(-0.0f) == 1.0f);
    CHECK(exp_alone(infinity) == infinity);
    CHECK(same(exp_alone(-infinity), 0.0f));
    CHECK(std::isnan(exp_alone(NAN)));
    CHECK(std::isnan(exp_alone(-NAN)));
    CHECK(std::isfinite(exp_alone(88.72283f)));
    for (const float large : {88.72284f, 89.0f, 1e3f, 1e9f, 3e38f}) CHECK(exp_alone(large) == infinity);
    CHECK(exp_alone(-87.3365f) >= std::numeric_limits<float>::min());
    for (const float small : {-87.33655f, -88.0f, -104.0f, -1e3f, -1e9f, -3e38f}) CHECK(same(exp_alone(small), 0.0f));
  }
}

TEST_CASE("exp and swiglu: the same bits wherever an element stands", "[elementwise]") {
  const std::vector<float> x = random_floats(75, 51, -20.0f, 20.0f);
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    for (index_t length = 1; length <= x.size(); ++length) {
      std::vector<float> y(x.begin(), x.begin() + length);
      kv::exp(y);
      Tensor<2> gate = empty<2>({1, length});
      std::copy_n(x.begin(), length, gate.data());
      const Tensor<2> activated = swiglu(gate, gate);
      for (index_t i = 0; i < length; ++i) {
        REQUIRE(same(y[i], exp_alone(x[i])));
        const Tensor<2> one(Shape<2>{1, 1}, x[i]);
        REQUIRE(same(activated(0, i), swiglu(one, one)(0, 0)));
      }
    }
  }
}

TEST_CASE("softmax: against double, equal between instruction sets", "[elementwise]") {
  const index_t length = GENERATE(1, 2, 15, 16, 17, 31, 32, 33, 100, 1000);
  std::vector<float> x = random_floats(length, 52, -12.0f, 5.0f);
  if (length > 20) x[length / 3] = -infinity;
  double sum = 0;
  for (const float value : x) sum += std::exp(static_cast<double>(value));
  std::vector<float> first;
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    std::vector<float> y = x;
    y.push_back(NAN);  // behind the row
    softmax({y.data(), length});
    CHECK(std::isnan(y.back()));
    if (first.empty()) first = y;
    REQUIRE(first_difference(y, first) == y.size());
    for (index_t i = 0; i < length; ++i) {
      CAPTURE(length, i, name(set));
      REQUIRE(y[i] == Approx(std::exp(static_cast<double>(x[i])) / sum).epsilon(2e-6).margin(0));
    }
  }
}

TEST_CASE("softmax: the order of the sum", "[elementwise]") {
  const std::vector<float> x = random_floats(77, 53, -6.0f, 0.0f);
  std::vector<float> y = x, e = x;
  const float largest = *std::max_element(x.begin(), x.end());
  for (float& value : e) value = exp_alone(value - largest);
  std::array<float, 16> sums = {};
  for (index_t i = 0; i < e.size(); ++i) sums[i % 16] += e[i];
  for (index_t half = 8; half > 0; half /= 2)
    for (index_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  softmax(y);
  for (index_t i = 0; i < y.size(); ++i) REQUIRE(same(y[i], e[i] * (1.0f / sums[0])));
}

TEST_CASE("running softmax: blocks against the whole row", "[elementwise]") {
  using Lengths = std::vector<index_t>;
  const Lengths lengths = GENERATE(Lengths{40}, Lengths{1, 1, 1}, Lengths{128, 128, 7}, Lengths{16, 300});
  const index_t length = std::accumulate(lengths.begin(), lengths.end(), index_t{0});
  std::vector<float> x = random_floats(length, 54, -9.0f, 9.0f);
  x[length - 1] = 12.0f;  // the maximum comes last: everything before is scaled
  if (length > 20) x[3] = -infinity;
  std::vector<float> first;
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    std::vector<float> y = x;
    RunningSoftmax running;
    for (index_t begin = 0, i = 0; i < lengths.size(); begin += lengths[i++]) {
      const float factor = running.next({y.data() + begin, lengths[i]});
      for (index_t j = 0; j < begin; ++j) y[j] *= factor;
    }
    if (first.empty()) first = y;
    REQUIRE(first_difference(y, first) == length);
    double sum = 0;
    for (const float value : x) sum += std::exp(static_cast<double>(value) - 12.0);
    CHECK(running.sum() == Approx(sum).epsilon(1e-6));
    for (index_t i = 0; i < length; ++i)
      REQUIRE(y[i] == Approx(std::exp(static_cast<double>(x[i]) - 12.0)).epsilon(2e-6).margin(1e-37));
  }
}

TEST_CASE("running softmax: nothing, and nothing but -infinity", "[elementwise]") {
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    RunningSoftmax running;
    CHECK(running.next({}) == 1.0f);
    std::vector<float> scores(3, 2.0f), none(18, -infinity);
    CHECK(running.next(scores) == 0.0f);
    CHECK(running.sum() == 3.0f);
    CHECK(running.next(none) == 1.0f);
    CHECK(running.sum() == 3.0f);
    CHECK(none == std::vector<float>(18, 0.0f));
  }
}

TEST_CASE("softmax: limits", "[elementwise]") {
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    softmax({});
    std::vector<float> one = {-300.0f}, huge(40, 3e38f), masked(40, -infinity), wrong(40, 1.0f), none(18, -infinity);
    softmax(one);
    CHECK(one[0] == 1.0f);
    softmax(huge);
    CHECK(huge[39] == 0.025f);
    masked[17] = -5.0f;
    softmax(masked);
    for (index_t i = 0; i < 40; ++i) CHECK(masked[i] == (i == 17 ? 1.0f : 0.0f));
    wrong[GENERATE(0, 3, 38)] = NAN;
    softmax(wrong);
    softmax(none);
    for (const float value : wrong) CHECK(std::isnan(value));
    for (const float value : none) CHECK(std::isnan(value));
  }
}

TEST_CASE("swiglu: against double", "[elementwise]") {
  const Tensor<2> gate = matrix(7, 451, 54, -30.0f, 30.0f), up = matrix(7, 451, 55, -3.0f, 4.0f);
  std::vector<float> first;
  for (const InstructionSet set : available_instruction_sets())
    for (const index_t thread_count : {1, 2}) {
      const Machine machine(set, thread_count);
      const Tensor<2> y = swiglu(gate, up);
      const std::vector<float> values(y.begin(), y.end());
      if (first.empty()) first = values;
      REQUIRE(first_difference(values, first) == values.size());
    }
  for (index_t i = 0; i < gate.size(); ++i) {
    const double g = gate.data()[i];
    REQUIRE(first[i] == Approx(g / (1 + std::exp(-g)) * up.data()[i]).epsilon(1e-6).margin(1e-30));
  }
  const Tensor<2> far = swiglu(Tensor<2>(Shape<2>{1, 3}, -200.0f), Tensor<2>(Shape<2>{1, 3}, 2.0f));
  CHECK(far(0, 1) == 0.0f);
  CHECK_THROWS_AS(swiglu(gate, zeros<2>({7, 450})), ShapeError);
}

TEST_CASE("rms_norm: against double, rows apart, in place", "[elementwise]") {
  const index_t N = 40, M = GENERATE(1, 16, 37, 2048);
  const Tensor<2> x = matrix(N, M, 56, -2.0f, 3.0f);
  const std::vector<float> values = random_floats(M, 57, 0.5f, 2.0f);
  Tensor<1> weight = empty<1>({M});
  std::copy(values.begin(), values.end(), weight.data());
  std::vector<float> first;
  for (const InstructionSet set : available_instruction_sets())
    for (const index_t thread_count : {1, 2}) {
      const Machine machine(set, thread_count);
      const Tensor<2> y = rms_norm(x, weight, 1e-3f);
      const std::vector<float> all(y.begin(), y.end());
      if (first.empty()) first = all;
      REQUIRE(first_difference(all, first) == all.size());
    }
  for (index_t n = 0; n < N; ++n) {
    double squares = 0;
    for (const float value : row(x, n)) squares += static_cast<double>(value) * value;
    const double factor = 1 / std::sqrt(squares / static_cast<double>(M) + 1e-3f);
    std::vector<float> alone(row(x, n).begin(), row(x, n).end());
    rms_norm(alone, values, 1e-3f);
    for (index_t i = 0; i < M; ++i) {
      REQUIRE(first[n * M + i] == Approx(x(n, i) * factor * weight(i)).epsilon(1e-6));
      REQUIRE(same(alone[i], first[n * M + i]));
    }
  }
  CHECK_THROWS_AS(rms_norm(x, empty<1>({M + 1}), 1e-3f), ShapeError);
}
