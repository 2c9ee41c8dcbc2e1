/// Sums over rows of 8-bit integers: their definition once more as plain loops, bit for bit, on every instruction set.
#include "common/tensor/code_sums.hpp"

#include <cmath>

#include "tests/support/catch.hpp"
#include "tests/support/instruction_sets.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// Rows of codes, the last one first, with the largest number around each and NaN between the scales.
struct ScatteredCodes {
  index_t count, width, run;
  std::vector<std::int8_t> memory;
  std::vector<const std::int8_t*> rows;
  std::vector<float> scales;  // [run][count + 3]

  ScatteredCodes(index_t count, index_t width, index_t run, unsigned seed)
      : count(count), width(width), run(run), memory((count + 1) * (width + 5) + 64, 127), scales(runs() * (count + 3), NAN) {
    const std::vector<float> random = random_floats(count * width, seed), of_scales = random_floats(count * runs(), seed + 1);
    for (index_t s = 0; s < count; ++s) {
      std::int8_t* const row = memory.data() + (count - s) * (width + 5);
      for (index_t i = 0; i < width; ++i) row[i] = static_cast<std::int8_t>(std::lround(random[s * width + i] * 127));
      rows.push_back(row);
    }
    for (index_t j = 0; j < runs(); ++j)
      for (index_t s = 0; s < count; ++s) scales[j * (count + 3) + s] = std::abs(of_scales[j * count + s]) / 100;
  }
  index_t runs() const { return (width + run - 1) / run; }
  CodesView view() const { return {rows, width, run, scales.data(), count + 3}; }
  float scale(index_t s, index_t j) const { return scales[j * (count + 3) + s]; }
};

struct Rounded {
  std::vector<std::int64_t> numbers;
  float unit;
};

/// To 16 bits, as simd/codes.hpp says.
Rounded in_16_bits(std::span<const float> x) {
  float largest = 0.0f;
  bool is_finite = true;
  for (const float each : x) {
    is_finite = is_finite && std::isfinite(each);
    largest = std::max(largest, std::abs(each));
  }
  Rounded result{std::vector<std::int64_t>(x.size(), 0), 0.0f};
  if (!is_finite) return result.unit = NAN, result;
  if (largest < 0x1p-100f) return result;
  const float factor = 32767.0f / largest;
  result.unit = largest / 32767.0f;
  for (index_t i = 0; i < x.size(); ++i) result.numbers[i] = std::lrint(x[i] * factor);
  return result;
}

float dot_by_definition(std::span<const float> query, const ScatteredCodes& codes, index_t s) {
  const Rounded rounded = in_16_bits(query);
  float score = 0.0f;
  for (index_t first = 0; first < codes.width;) {
    const index_t j = first / codes.run, end = std::min({codes.width, (j + 1) * codes.run, first + 512});
    std::int64_t sum = 0;
    for (index_t i = first; i < end; ++i) sum += rounded.numbers[i] * codes.rows[s][i];
    REQUIRE(std::abs(sum) < std::int64_t{1} << 31);
    score = std::fma(static_cast<float>(sum), codes.scale(s, j) * rounded.unit, score);
    first = end;
  }
  return score;
}

float add_by_definition(std::span<const float> weights, const ScatteredCodes& codes, index_t i, float before) {
  std::vector<float> scaled;
  for (index_t s = 0; s < codes.count; ++s) scaled.push_back(weights[s] * codes.scale(s, i / codes.run));
  const Rounded rounded = in_16_bits(scaled);
  std::int64_t sum = 0;
  for (index_t s = 0; s < codes.count; ++s) sum += rounded.numbers[s] * codes.rows[s][i];
  return std::fma(static_cast<float>(sum), rounded.unit, before);
}

/// Both sums of some queries, whose numbers lie `gap` apart from each other's, against the definition.
void agree(const ScatteredCodes& codes, const std::vector<float>& queries, const std::vector<float>& weights, index_t count) {
  constexpr index_t gap = 3;
  const index_t query_stride = codes.width + gap, weight_stride = codes.count + gap;
  std::vector<float> spread(count * query_stride, NAN), spread_weights(count * weight_stride, NAN);
  for (index_t q = 0; q < count; ++q) {
    std::copy_n(&queries[q * codes.width], codes.width, &spread[q * query_stride]);
    std::copy_n(&weights[q * codes.count], codes.count, &spread_weights[q * weight_stride]);
  }
  std::vector<float> scores(count * weight_stride, -7.0f), out(count * query_stride, 0.25f);
  dot_codes({spread.data(), query_stride, count, codes.width}, codes.view(), scores.data(), weight_stride);
  add_weighted_codes({spread_weights.data(), weight_stride, count, codes.count}, codes.view(), out.data(), query_stride);
  index_t wrong = 0;
  for (index_t q = 0; q < count; ++q) {
    const std::span query(&queries[q * codes.width], codes.width), row_weights(&weights[q * codes.count], codes.count);
    for (index_t s = 0; s < weight_stride; ++s)
      wrong += !same(scores[q * weight_stride + s], s < codes.count ? dot_by_definition(query, codes, s) : -7.0f);
    for (index_t i = 0; i < query_stride; ++i)
      wrong += !same(out[q * query_stride + i], i < codes.width ? add_by_definition(row_weights, codes, i, 0.25f) : 0.25f);
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("sums over integers are their definition, bit for bit", "[codes]") {
  const auto [width, run] = GENERATE(table<index_t, index_t>({{1, 1}, {2, 2}, {6, 4}, {7, 7}, {31, 31}, {64, 64}, {66, 33}, {128, 128},
                                                              {130, 128}, {192, 192}, {512, 128}, {600, 600}, {1100, 1100}, {1400, 100}}));
  const index_t count = GENERATE(1, 2, 15, 16, 17, 64, 127, 128);
  const ScatteredCodes codes(count, width, run, 40);
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    for (const index_t queries : {index_t{1}, index_t{3}, index_t{4}, index_t{8}, index_t{11}, index_t{16}}) {
      CAPTURE(name(set), width, run, count, queries);
      std::vector<float> weights = random_floats(queries * count, 43);
      for (float& each : weights) each = std::abs(each);
      agree(codes, random_floats(queries * width, 42), weights, queries);
    }
  }
}

TEST_CASE("sums over integers: the largest there are, zeros, the smallest and no numbers", "[codes]") {
  ScatteredCodes codes(128, 512, 512, 50);
  for (index_t s = 0; s < 128; ++s)
    for (index_t i = 0; i < 512; ++i) const_cast<std::int8_t*>(codes.rows[s])[i] = s % 3 == 0 ? -127 : s % 3 == 1 ? 127 : i % 2 == 0 ? 127 : -127;
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    for (const float value : {1.0f, -1.0f, 0.0f, -0.0f, 0x1p-100f, 0x1.8p-101f, 1e-44f, 3e38f, INFINITY, NAN}) {
      CAPTURE(name(set), value);
      std::vector<float> all(2 * 512, value), one = random_floats(2 * 512, 51);
      one[100] = value;
      one[512 + 77] = value;
      agree(codes, all, {all.begin(), all.begin() + 256}, 2);
      agree(codes, one, {one.begin(), one.begin() + 256}, 2);
    }
  }
}

TEST_CASE("sums over integers refuse widths that differ and too many rows", "[codes]") {
  const ScatteredCodes codes(3, 8, 8, 60);
  float room[8];
  CHECK_THROWS_AS(dot_codes({room, 7, 1, 7}, codes.view(), room, 8), ShapeError);
  CHECK_THROWS_AS(add_weighted_codes({room, 2, 1, 2}, codes.view(), room, 8), ShapeError);
  const ScatteredCodes many(129, 8, 8, 61);
  const std::vector<float> weights(129, 1.0f);
  CHECK_THROWS_AS(add_weighted_codes({weights.data(), 129, 1, 129}, many.view(), room, 8), std::invalid_argument);
}
