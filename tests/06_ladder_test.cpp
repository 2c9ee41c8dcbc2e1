/// The ladder of MLA decode kernels: every rung against the formula in double precision, on the CPU runtime.
#include <cmath>

#include "chapters/06_cuda_kernels/bench/agreement.hpp"
#include "chapters/06_cuda_kernels/ladder/schedule.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/mla_cases.hpp"

using namespace kv;
using namespace kv::cuda;
using namespace kv::test;

namespace {

constexpr double half_ulp = 1.0 / 256;  // bf16 has 8 significant bits: rounding is off by at most 2^-8 of the value

/// A rounded output; on tensor cores, sums of terms whose weights were rounded; and f32 arithmetic in between.
double tolerance(const Rung& rung, const MlaOracle& expected) {
  const double of_output = half_ulp * expected.largest, of_weights = half_ulp * expected.largest_terms;
  return (rung.rounds_weights ? of_output + of_weights : of_output) * 1.01;
}

struct Distance {
  double output = 0.0, lse = 0.0;  ///< largest; NaN when there is one
  double rms = 0.0;                ///< of the outputs, relative to that of the expected ones
};
Distance distance(const Decoded& found, const MlaOracle& expected) {
  REQUIRE(found.output.size() == expected.output.size());
  REQUIRE(found.lse.size() == expected.lse.size());
  Distance result;
  const auto take = [](double& largest, double difference) {
    if (!(difference <= largest)) largest = difference;  // a NaN is taken, and stays
  };
  double squares = 0.0, expected_squares = 0.0;
  for (std::size_t i = 0; i < expected.output.size() && !std::isnan(result.output); ++i) {
    const double difference = std::abs(to_float(found.output[i]) - expected.output[i]);
    take(result.output, difference);
    squares += difference * difference, expected_squares += expected.output[i] * expected.output[i];
  }
  result.rms = squares > 0.0 ? std::sqrt(squares / expected_squares) : 0.0;
  for (std::size_t i = 0; i < expected.lse.size() && !std::isnan(result.lse); ++i)
    if (found.lse[i] != expected.lse[i])  // equal infinities are no distance apart
      take(result.lse, std::abs(found.lse[i] - expected.lse[i]) / std::max(1.0, std::abs(expected.lse[i])));
  return result;
}

void check_against_formula(const Rung& rung, const MlaCase& c, int multiprocessors) {
  const MlaDecodeOnHost problem = make(c);
  const MlaOracle expected = oracle(problem);
  const Distance found = distance(decode(rung, problem, multiprocessors), expected);
  CHECK(found.output <= tolerance(rung, expected));
  CHECK(found.rms <= half_ulp);  // roundings are independent: a bias of half a percent shows
  CHECK(found.lse <= 1e-5);  // f32: neither scores nor sums are rounded further
}

/// Rungs that this device can run: all of them on the CPU runtime.
std::vector<std::string> rungs_here() {
  std::vector<std::string> labels;
  for (const Rung& rung : ladder())
    if (why_not(rung, device_properties()).empty()) labels.push_back(rung.label());
  return labels;
}

}  // namespace

TEST_CASE("every rung computes MLA decode: ragged batch, shuffled pages, NaN where nothing may be read", "[ladder]") {
  const Rung& rung = find_rung(GENERATE(from_range(rungs_here())));
  const int heads = GENERATE(1, 2, 16, 128);
  CAPTURE(rung.name, heads);
  check_against_formula(rung, {heads, {65, 0, 1, 200, 63, 64}, 1}, 4);
}

TEST_CASE("every rung, for one sequence around the edges of a page", "[ladder]") {
  const Rung& rung = find_rung(GENERATE(from_range(rungs_here())));
  const int length = GENERATE(1, 63, 64, 65, 128, 200);
  CAPTURE(rung.name, length);
  check_against_formula(rung, {3, {length}, 2}, 2);
}

TEST_CASE("every rung, from fewer multiprocessors than sequences to more than pages", "[ladder]") {
  const Rung& rung = find_rung(GENERATE(from_range(rungs_here())));
  const int multiprocessors = GENERATE(1, 2, 3, 5, 40);
  CAPTURE(rung.name, multiprocessors);
  check_against_formula(rung, {2, {0, 130, 0, 0, 300, 10, 0}, 3}, multiprocessors);
}

TEST_CASE("every rung, for a sequence with a part on each of many multiprocessors", "[ladder]") {
  const Rung& rung = find_rung(GENERATE(from_range(rungs_here())));
  const int multiprocessors = GENERATE(17, 35);
  CAPTURE(rung.name, multiprocessors);
  check_against_formula(rung, {2, {35 * 64 - 5}, 6}, multiprocessors);
}

TEST_CASE("every rung, when one token outweighs all others and when a later page does", "[ladder]") {
  const Rung& rung = find_rung(GENERATE(from_range(rungs_here())));
  const float scale = GENERATE(1.0f, -0.3f, 0.0f, 10.0f);
  CAPTURE(rung.name, scale);
  check_against_formula(rung, {5, {250, 129}, 4, true, scale}, 2);
}

TEST_CASE("every rung agrees with the last one: longer ragged sequences, in several shares", "[ladder]") {
  const int multiprocessors = GENERATE(3, 7);
  const MlaDecodeOnHost problem = make({16, {1300, 65, 700, 64, 1}, 9});
  const Decoded last = decode(find_rung(rungs_here().back()), problem, multiprocessors);
  for (const std::string& label : rungs_here()) {
    CAPTURE(label, multiprocessors);
    CHECK_NOTHROW(require_agreement(label, decode(find_rung(label), problem, multiprocessors), last));
  }
}

TEST_CASE("where the pages lie changes no bit", "[ladder]") {
  const Rung& rung = find_rung(GENERATE(from_range(rungs_here())));
  CAPTURE(rung.name);
  const MlaDecodeOnHost contiguous = make({2, {100, 0, 129}, 5, false});
  MlaDecodeOnHost moved = contiguous;  // the same pages in the opposite order
  const int pages = int(contiguous.latents.size()) / (page_tokens * latent_width);
  for (int page = 0; page < pages; ++page)
    std::copy_n(&contiguous.latents[std::size_t(page) * page_tokens * latent_width], page_tokens * latent_width,
                &moved.latents[std::size_t(pages - 1 - page) * page_tokens * latent_width]);
  for (int& page : moved.block_table) page = pages - 1 - page;
  CHECK(same_bits(decode(rung, contiguous, 2), decode(rung, moved, 2)));
}

TEST_CASE("a batch of nothing, and a batch of empty sequences", "[ladder]") {
  const Rung& rung = find_rung(GENERATE(from_range(rungs_here())));
  CAPTURE(rung.name);
  CHECK(decode(rung, make({2, {}, 6}), 2).output.empty());
  check_against_formula(rung, {2, {0, 0}, 7}, 2);
}

TEST_CASE("wrong shapes are refused before anything runs", "[ladder]") {
  const Rung& rung = find_rung(GENERATE(from_range(rungs_here())));
  CAPTURE(rung.name);
  const MlaDecodeOnHost good = make({2, {70, 3}, 8});
  const auto refused = [&](auto&& spoil) {
    MlaDecodeOnHost problem = good;
    spoil(problem);
    return [&rung, problem] { decode(rung, problem, 2); };
  };
  using std::invalid_argument, std::out_of_range;
  CHECK_NOTHROW(refused([](auto&) {})());
  CHECK_THROWS_AS(refused([](auto& p) { p.queries.pop_back(); })(), invalid_argument);       // width
  CHECK_THROWS_AS(refused([](auto& p) { p.latents.pop_back(); })(), invalid_argument);       // width
  CHECK_THROWS_AS(refused([](auto& p) { p.heads = 0; })(), invalid_argument);
  CHECK_THROWS_AS(refused([](auto& p) { p.heads = 3; })(), invalid_argument);
  CHECK_THROWS_AS(refused([](auto& p) { p.lengths.push_back(1); })(), invalid_argument);     // no row in the table
  MlaDecode large{};
  large.batch = most_sequences, large.heads = 1;
  CHECK_NOTHROW(require_fit(large));
  ++large.batch;
  CHECK_THROWS_AS(require_fit(large), invalid_argument);
  CHECK_THROWS_AS(refused([](auto& p) { p.lengths[1] = -1; })(), out_of_range);
  CHECK_THROWS_AS(refused([](auto& p) { p.lengths[0] = p.table_width * page_tokens + 1; })(), out_of_range);
  CHECK_THROWS_AS(refused([](auto& p) { p.lengths[0] = 2 * page_tokens + 1; })(), out_of_range);  // no such page
  CHECK_THROWS_AS(refused([](auto& p) { p.block_table[0] = -1; })(), out_of_range);
  CHECK_THROWS_AS(decode(rung, good, 0), invalid_argument);
}

TEST_CASE("an error names what, where and what was expected", "[ladder]") {
  MlaDecodeOnHost problem = make({2, {70, 3}, 8});
  problem.lengths[1] = 400;
  CHECK_THROWS_WITH(decode(find_rung("1"), problem, 2),
                    "mla_decode: length of sequence 1 is 400, its row of the table holds 192");
  CHECK_THROWS_WITH(find_rung("0"), Catch::Matchers::StartsWith("ladder: there is no rung 0, only 1 2 3 "));
}

TEST_CASE("the table is a ladder", "[ladder]") {
  int number = 0, capability = 0;
  char letter = 0;
  for (const Rung& rung : ladder()) {
    CAPTURE(rung.label());
    CHECK((rung.letter == 0 ? rung.number == number + 1 : rung.number == number && rung.letter == (letter ? letter + 1 : 'b')));
    CHECK(rung.capability >= capability);
    CHECK((rung.prediction.at_16_heads || rung.prediction.at_128_heads));
    number = rung.number, letter = rung.letter, capability = rung.capability;
  }
}

namespace {

/// How often each page of each sequence is read by the shares of a schedule.
std::vector<std::vector<int>> reads(const ScheduleOnHost& schedule, const std::vector<int>& lengths) {
  std::vector<std::vector<int>> result;
  for (const int length : lengths) result.emplace_back(pages_of(length));
  for (const Share& share : schedule.shares)
    for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
      const PageRange part = share.part(b, pages_of(lengths[b]));
      for (int i = part.first; i < part.end; ++i) ++result[b].at(i);
    }
  return result;
}

std::vector<int> random_lengths(int batch, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<int> lengths(batch);
  for (int& length : lengths) length = generator() % 3 == 0 ? 0 : int(generator() % 1500);
  return lengths;
}

}  // namespace

TEST_CASE("a schedule reads every page once, in shares that differ by one page at most", "[schedule]") {
  const int batch = GENERATE(1, 2, 31, 32, 33, 100), share_count = GENERATE(1, 4, 31, 132, 1000);
  CAPTURE(batch, share_count);
  const std::vector<int> lengths = random_lengths(batch, 10 + batch);
  const ScheduleOnHost schedule = schedule_on_host(lengths, share_count);
  for (const auto& sequence : reads(schedule, lengths))
    for (const int times : sequence) REQUIRE(times == 1);

  int fewest = 1 << 30, most = 0;
  for (const Share& share : schedule.shares) {
    int pages = 0;
    for (int b = share.first_sequence; b <= share.last_sequence; ++b) {
      const PageRange part = share.part(b, pages_of(lengths[b]));
      pages += part.end - part.first;
    }
    fewest = std::min(fewest, pages), most = std::max(most, pages);
  }
  CHECK(most - fewest <= 1);
}

TEST_CASE("a schedule knows who reads a sequence", "[schedule]") {
  const int batch = GENERATE(1, 33, 70), share_count = GENERATE(1, 7, 132, 700);
  CAPTURE(batch, share_count);
  const std::vector<int> lengths = random_lengths(batch, 20 + batch);
  const ScheduleOnHost schedule = schedule_on_host(lengths, share_count);
  for (int b = 0; b < batch; ++b) {
    std::vector<int> expected;
    for (int k = 0; k < share_count; ++k) {
      const Share& share = schedule.shares[k];
      if (b < share.first_sequence || b > share.last_sequence) continue;
      const PageRange part = share.part(b, pages_of(lengths[b]));
      if (part.first < part.end) expected.push_back(k);
    }
    REQUIRE(schedule.readers[b].count == int(expected.size()));
    if (!expected.empty()) {
      REQUIRE(schedule.readers[b].first == expected.front());
      REQUIRE(expected.back() - expected.front() == int(expected.size()) - 1);  // consecutive
    }
  }
}

TEST_CASE("a schedule of nothing", "[schedule]") {
  const ScheduleOnHost schedule = schedule_on_host(std::vector<int>{0, 0, 0}, 5);
  for (const Share& share : schedule.shares) CHECK(share.last_sequence < share.first_sequence);
  for (const Readers& readers : schedule.readers) CHECK(readers.count == 0);
}
