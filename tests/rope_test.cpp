/// RoPE: the angles, how they are stretched, the two layouts, and what makes it a relative position.
#include "common/tensor/rope.hpp"

#include <cmath>
#include <numbers>

#include "tests/support/catch.hpp"
#include "tests/support/oracle.hpp"
#include "tests/support/random.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;
using namespace kv::test;

namespace {

using Rotate = void (*)(std::span<float>, std::span<const float>, std::span<const float>);

Rope plain_rope(index_t width, double theta = 10000.0) {
  const std::vector<double> frequencies = rope_frequencies(width, theta);
  return {std::vector<float>(frequencies.begin(), frequencies.end())};
}

/// One head turned to a position.
std::vector<float> turned(Rotate rotate, std::vector<float> head, const Rope& rope, index_t position) {
  const RopeTable table = rope.table(std::vector<index_t>{position});
  rotate(head, row(table.cos, 0), row(table.sin, 0));
  return head;
}

/// As rank 1, to be compared.
Tensor<1> tensor(const std::vector<float>& values) {
  Tensor<1> result = empty<1>({values.size()});
  std::copy(values.begin(), values.end(), result.begin());
  return result;
}
Doubles<1> tensor(const std::vector<double>& values) {
  Doubles<1> result = Doubles<1>::from_shape({values.size()});
  std::copy(values.begin(), values.end(), result.begin());
  return result;
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0;
  for (index_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

/// (0, 1, 2, 3) -> (0, 2, 1, 3): evens, then odds.
std::vector<float> evens_then_odds(const std::vector<float>& x) {
  std::vector<float> result;
  for (index_t first : {index_t{0}, index_t{1}})
    for (index_t i = first; i < x.size(); i += 2) result.push_back(x[i]);
  return result;
}

constexpr const char* angle_rounding = "an angle is the product of two f32";

}  // namespace

TEST_CASE("frequencies fall from 1 to theta^-(1-2/D)", "[rope]") {
  CHECK(rope_frequencies(4, 10000.0) == std::vector<double>{1.0, 0.01});
  const std::vector<double> found = rope_frequencies(10, 500000.0), expected = oracle::frequencies(10, 500000.0);
  REQUIRE(found.size() == 5);
  for (index_t i = 0; i < 5; ++i) CHECK(found[i] == Approx(expected[i]).epsilon(1e-14));
}

TEST_CASE("the table holds cos and sin of position * frequency", "[rope]") {
  const Rope rope = plain_rope(8);
  const std::vector<index_t> positions{0, 1, 7, 4095};
  const RopeTable table = rope.table(positions);
  for (index_t n = 0; n < positions.size(); ++n)
    for (index_t i = 0; i < 4; ++i) {
      CAPTURE(n, i);
      const double angle = static_cast<double>(positions[n]) * std::pow(10000.0, -static_cast<double>(i) / 4.0);
      CHECK(table.cos(n, i) == Approx(std::cos(angle)).margin(2e-4));  // 4095 * 2^-24
      CHECK(table.sin(n, i) == Approx(std::sin(angle)).margin(2e-4));
    }
  CHECK(table.cos(0, 3) == 1.0f);
  CHECK(table.sin(0, 3) == 0.0f);
}

TEST_CASE("far out an angle is the product of two f32 numbers, as in the programs that trained the weights", "[rope]") {
  const Rope rope = plain_rope(64);
  constexpr index_t position = 100'003;
  const RopeTable table = rope.table(std::vector<index_t>{position});
  double most = 0.0;
  for (index_t i = 0; i < 32; ++i) {
    const float angle = 100'003.0f * rope.frequencies[i];
    CAPTURE(i);
    CHECK(table.cos(0, i) == static_cast<float>(std::cos(static_cast<double>(angle))));
    CHECK(table.sin(0, i) == static_cast<float>(std::sin(static_cast<double>(angle))));
    most = std::max(most, std::abs(static_cast<double>(angle) - 100'003.0 * static_cast<double>(rope.frequencies[i])));
  }
  CHECK(most > 1e-3);  // so a product in double is another one
}

TEST_CASE("a row of the table does not depend on the others", "[rope]") {
  const Rope rope = plain_rope(32);
  const RopeTable many = rope.table(std::vector<index_t>{3, 900, 17}), one = rope.table(std::vector<index_t>{900});
  CHECK(exact(rows(many.cos, 1, 1), one.cos));
  CHECK(exact(rows(many.sin, 1, 1), one.sin));
}

TEST_CASE("both layouts are complex products of their pairs", "[rope]") {
  const index_t width = GENERATE(2, 6, 18, 64);
  const index_t position = GENERATE(0, 1, 5, 131);
  CAPTURE(width, position);
  const std::vector<float> head = random_floats(width, 3);
  const std::vector<double> wide(head.begin(), head.end()), frequencies = oracle::frequencies(width, 10000.0);
  const double at = static_cast<double>(position);
  CHECK(close(tensor(turned(rotate_half_split, head, plain_rope(width), position)),
              tensor(oracle::rotate(wide, frequencies, at, oracle::Pairs::half_split)), 2e-5, angle_rounding));
  CHECK(close(tensor(turned(rotate_interleaved, head, plain_rope(width), position)),
              tensor(oracle::rotate(wide, frequencies, at, oracle::Pairs::interleaved)), 2e-5, angle_rounding));
}

TEST_CASE("the layouts differ by a permutation, bit for bit", "[rope]") {
  const std::vector<float> head = random_floats(18, 4);
  const Rope rope = plain_rope(18);
  CHECK(exact(tensor(evens_then_odds(turned(rotate_interleaved, head, rope, 29))),
              tensor(turned(rotate_half_split, evens_then_odds(head), rope, 29))));
}

TEST_CASE("row 0 is blind: there any layout is right, so no test may stop there", "[rope]") {
  const std::vector<float> head = random_floats(16, 5);
  const Rope rope = plain_rope(16);
  CHECK(turned(rotate_half_split, head, rope, 0) == head);
  CHECK(turned(rotate_interleaved, head, rope, 0) == head);
  CHECK(turned(rotate_half_split, head, rope, 1) != turned(rotate_interleaved, head, rope, 1));
}

TEST_CASE("a score depends on the distance of two positions alone", "[rope]") {
  const Rotate rotate = GENERATE(rotate_half_split, rotate_interleaved);
  const std::vector<float> query = random_floats(32, 6), key = random_floats(32, 7);
  const Rope rope = plain_rope(32);
  const auto score = [&](index_t q, index_t k) { return dot(turned(rotate, query, rope, q), turned(rotate, key, rope, k)); };
  for (const index_t shift : {1, 10, 500}) {
    CAPTURE(shift);
    CHECK(score(9 + shift, 4 + shift) == Approx(score(9, 4)).margin(2e-3));
  }
  CHECK(std::abs(score(9, 4) - score(9, 5)) > 0.05);  // and it does depend on it
  CHECK(std::abs(score(9, 4) - score(4, 9)) > 0.05);  // with its sign
}

TEST_CASE("turning keeps lengths", "[rope]") {
  const Rotate rotate = GENERATE(rotate_half_split, rotate_interleaved);
  const std::vector<float> head = random_floats(20, 8), after = turned(rotate, head, plain_rope(20), 77);
  CHECK(dot(after, after) == Approx(dot(head, head)).epsilon(1e-5));
}

TEST_CASE("Llama 3's bands: short waves stay, long ones are divided, between them a ramp", "[rope]") {
  // Published values of Llama 3.1: factor 8, low 1, high 4, original length 8192, theta 500000, head 128.
  const std::vector<double> plain = rope_frequencies(128, 500000.0);
  const std::vector<double> found = llama3_frequencies(plain, 8.0, 1.0, 4.0, 8192.0);
  index_t kept = 0, divided = 0, ramped = 0;
  for (index_t i = 0; i < plain.size(); ++i) {
    CAPTURE(i);
    const double wavelength = 2.0 * std::numbers::pi / plain[i];
    if (wavelength < 8192.0 / 4.0) {
      CHECK(found[i] == Approx(plain[i]).epsilon(1e-14));
      ++kept;
    } else if (wavelength > 8192.0) {
      CHECK(found[i] == Approx(plain[i] / 8.0).epsilon(1e-14));
      ++divided;
    } else {
      const double smooth = (8192.0 / wavelength - 1.0) / 3.0;
      CHECK(found[i] == Approx((1.0 - smooth) * plain[i] / 8.0 + smooth * plain[i]).epsilon(1e-12));
      ++ramped;
    }
  }
  CHECK(kept == 29);
  CHECK(ramped == 6);
  CHECK(divided == 29);
}

TEST_CASE("YaRN of the published DeepSeek models: pairs 0-10 stay, 23-31 are divided by 40", "[rope]") {
  const std::vector<double> plain = rope_frequencies(64, 10000.0);
  const std::vector<double> found = yarn_frequencies(plain, 10000.0, 40.0, 4096.0, 32.0, 1.0);
  for (index_t i = 0; i < 32; ++i) {
    CAPTURE(i);
    if (i <= 10)
      CHECK(found[i] == Approx(plain[i]).epsilon(1e-14));
    else if (i >= 23)
      CHECK(found[i] == Approx(plain[i] / 40.0).epsilon(1e-14));
    else
      CHECK(found[i] == Approx(plain[i] * (1.0 - (static_cast<double>(i) - 10.0) / 13.0 * (1.0 - 1.0 / 40.0))).epsilon(1e-12));
  }
}

TEST_CASE("YaRN's magnitudes: softmax scales 1.5896 of V2-Lite, 1.8739 of V3", "[rope]") {
  CHECK(std::pow(yarn_magnitude(40.0, 0.707), 2.0) == Approx(1.5896).epsilon(1e-4));
  CHECK(std::pow(yarn_magnitude(40.0, 1.0), 2.0) == Approx(1.8739).epsilon(1e-4));
  CHECK(yarn_magnitude(1.0, 1.0) == 1.0);
  CHECK(yarn_magnitude(0.5, 1.0) == 1.0);
  CHECK(yarn_magnitude(40.0, 0.0) == 1.0);
}

TEST_CASE("YaRN's ramp without width does not divide by zero", "[rope]") {
  for (const double frequency : yarn_frequencies(rope_frequencies(8, 1e30), 1e30, 4.0, 16.0, 1.0, 1.0))
    CHECK(std::isfinite(frequency));
}
