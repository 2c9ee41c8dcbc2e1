// common/dot: exact against the order written as loops; rel 1e-6 of the sum of magnitudes against double.
#include "common/tensor/attention_sums.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "tests/support/catch.hpp"
#include "tests/support/instruction_sets.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// The definition: element i goes to sum i mod 16, then a tree of halves.
float dot(const float* a, const float* b, index_t width) {
  std::array<float, 16> sums = {};
  for (index_t i = 0; i < width; ++i) sums[i % 16] = std::fma(a[i], b[i], sums[i % 16]);
  for (index_t half = 8; half > 0; half /= 2)
    for (index_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  return sums[0];
}

/// Rows with NaN between them: whoever reads past the width of one shows it.
struct PoisonedRows {
  std::vector<float> floats;
  RowsView view;

  PoisonedRows(index_t count, index_t width, unsigned seed) : floats(count * (width + 3) + 16, NAN) {
    const std::vector<float> values = random_floats(count * width, seed);
    for (index_t s = 0; s < count; ++s)
      for (index_t i = 0; i < width; ++i) floats[s * (width + 3) + i] = values[s * width + i];
    view = {floats.data(), width + 3, count, width};
  }
  const float* row(index_t s) const { return floats.data() + s * view.stride; }
};

RowsView one_row(const std::vector<float>& x) { return {x.data(), x.size(), 1, x.size()}; }

const std::vector<index_t> widths = {1, 15, 16, 17, 31, 64, 100, 128, 576};
const std::vector<index_t> counts = {1, 2, 3, 7, 8, 9, 16, 37, 64, 65, 130};

}  // namespace

TEST_CASE("dot_rows and add_weighted_rows: the fixed order", "[dot]") {
  const index_t width = GENERATE(from_range(widths));
  const index_t count = GENERATE(from_range(counts));
  const PoisonedRows rows(count, width, 31);
  const std::vector<float> query = random_floats(width, 32), weights = random_floats(count, 33);

  std::vector<float> expected_scores(count), expected_sum = random_floats(width, 30);
  const std::vector<float> start = expected_sum;
  for (index_t s = 0; s < count; ++s) {
    expected_scores[s] = dot(query.data(), rows.row(s), width);
    for (index_t d = 0; d < width; ++d) expected_sum[d] = std::fma(weights[s], rows.row(s)[d], expected_sum[d]);
  }
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    CAPTURE(width, count, name(set));
    std::vector<float> scores(count, NAN), sum = start;
    dot_rows(query, rows.view, scores);
    add_weighted_rows(one_row(weights), rows.view, sum.data(), width);
    REQUIRE(first_difference(scores, expected_scores) == count);
    REQUIRE(first_difference(sum, expected_sum) == width);
  }
}

TEST_CASE("several queries at once give each query's own bits", "[dot]") {
  const index_t queries_count = GENERATE(1, 2, 3, 4, 5, 8, 13, 16, 29);
  const auto [width, count] = GENERATE(
      table<index_t, index_t>({{64, 9}, {100, 37}, {576, 130}, {17, 1}, {128, 256}}));
  const PoisonedRows rows(count, width, 34), queries(queries_count, width, 35), weights(queries_count, count, 36);

  std::vector<float> scores_alone, sums_alone;
  for (index_t q = 0; q < queries_count; ++q) {
    std::vector<float> scores(count), sum(width, 0.25f);
    dot_rows({queries.row(q), width}, rows.view, scores);
    add_weighted_rows({weights.row(q), count, 1, count}, rows.view, sum.data(), width);
    scores_alone.insert(scores_alone.end(), scores.begin(), scores.end());
    sums_alone.insert(sums_alone.end(), sum.begin(), sum.end());
  }
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    CAPTURE(queries_count, width, count, name(set));
    const index_t scores_stride = count + 2, out_stride = width + 1;
    std::vector<float> scores(queries_count * scores_stride, NAN), sums(queries_count * out_stride, NAN);
    for (index_t q = 0; q < queries_count; ++q) std::fill_n(sums.begin() + q * out_stride, width, 0.25f);
    dot_rows(queries.view, rows.view, scores.data(), scores_stride);
    add_weighted_rows(weights.view, rows.view, sums.data(), out_stride);
    for (index_t q = 0; q < queries_count; ++q) {
      for (index_t s = 0; s < count; ++s) REQUIRE(same(scores[q * scores_stride + s], scores_alone[q * count + s]));
      for (index_t d = 0; d < width; ++d) REQUIRE(same(sums[q * out_stride + d], sums_alone[q * width + d]));
      REQUIRE(std::isnan(scores[q * scores_stride + count]));
      REQUIRE(std::isnan(sums[q * out_stride + width]));
    }
  }
}

TEST_CASE("dot_rows and add_weighted_rows against double", "[dot]") {
  const index_t width = 576, count = 200;
  const PoisonedRows rows(count, width, 37);
  const std::vector<float> query = random_floats(width, 38), weights = random_floats(count, 39);
  std::vector<float> scores(count), sum(width, 0.0f);
  dot_rows(query, rows.view, scores);
  add_weighted_rows(one_row(weights), rows.view, sum.data(), width);
  for (index_t s = 0; s < count; ++s) {
    double exact = 0, magnitude = 0;
    for (index_t d = 0; d < width; ++d) {
      exact += static_cast<double>(query[d]) * rows.row(s)[d];
      magnitude += std::abs(static_cast<double>(query[d]) * rows.row(s)[d]);
    }
    REQUIRE(std::abs(scores[s] - exact) <= 1e-6 * magnitude);
  }
  for (index_t d = 0; d < width; ++d) {
    double exact = 0, magnitude = 0;
    for (index_t s = 0; s < count; ++s) {
      exact += static_cast<double>(weights[s]) * rows.row(s)[d];
      magnitude += std::abs(static_cast<double>(weights[s]) * rows.row(s)[d]);
    }
    REQUIRE(std::abs(sum[d] - exact) <= 1e-6 * magnitude);
  }
}

TEST_CASE("a weighted sum in pieces is the sum in one piece", "[dot]") {
  const index_t width = 100, count = 130, queries_count = GENERATE(1, 5, 16);
  const PoisonedRows rows(count, width, 43), weights(queries_count, count, 44);
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    std::vector<float> whole(queries_count * width, 0.0f), pieces = whole;
    add_weighted_rows(weights.view, rows.view, whole.data(), width);
    for (const auto [first, length] : {std::array<index_t, 2>{0, 1}, {1, 40}, {41, 0}, {41, 87}, {128, 2}})
      add_weighted_rows({weights.row(0) + first, weights.view.stride, queries_count, length},
                        {rows.row(first), rows.view.stride, length, width}, pieces.data(), width);
    REQUIRE(first_difference(pieces, whole) == whole.size());
  }
}

TEST_CASE("what is fetched while values are summed changes no bit, wherever it lies", "[dot]") {
  const index_t width = GENERATE(0, 5, 64, 100, 512), count = 130, queries_count = GENERATE(1, 4, 16);
  const PoisonedRows rows(count, width, 45), weights(queries_count, count, 46);
  const std::vector<std::byte> later(3);  // fetching goes behind its end
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    std::vector<float> expected(queries_count * width, 0.0f);
    add_weighted_rows(weights.view, rows.view, expected.data(), width);
    for (const NextRows next : {NextRows{nullptr, 0, 0}, {later.data(), 1, 1}, {later.data(), 656, 700}, {later.data(), 4 * width, 1 << 20}}) {
      std::vector<float> sums(queries_count * width, 0.0f);
      add_weighted_rows(weights.view, rows.view, next, sums.data(), width);
      REQUIRE(first_difference(sums, expected) == sums.size());
    }
  }
}

TEST_CASE("dot_rows and add_weighted_rows: empty and wrong shapes", "[dot]") {
  const PoisonedRows rows(4, 20, 40);
  std::vector<float> query(20), scores(4), out(20);
  for (const InstructionSet set : available_instruction_sets()) {
    const Machine machine(set, 1);
    std::fill(out.begin(), out.end(), 3.0f);
    add_weighted_rows(RowsView{query.data(), 0, 1, 0}, {rows.floats.data(), 23, 0, 20}, out.data(), 20);
    CHECK(out == std::vector<float>(20, 3.0f));
    dot_rows(query, {rows.floats.data(), 23, 0, 20}, {});
  }
  CHECK_THROWS_AS(dot_rows({query.data(), 19}, rows.view, scores), ShapeError);
  CHECK_THROWS_AS(dot_rows(query, rows.view, {scores.data(), 3}), ShapeError);
  CHECK_THROWS_AS(dot_rows(PoisonedRows(2, 19, 41).view, rows.view, scores.data(), 4), ShapeError);
  CHECK_THROWS_AS(add_weighted_rows(PoisonedRows(2, 3, 42).view, rows.view, out.data(), 20), ShapeError);
}
