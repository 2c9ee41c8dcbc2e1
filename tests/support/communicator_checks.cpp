#include "tests/support/communicator_checks.hpp"

#include <chrono>
#include <random>
#include <thread>

namespace kv::test {
namespace {

/// Number i of rank r, not the same anywhere; small ones and large ones, so that another order of a sum shows.
float number(index_t r, index_t i) {
  const double x = static_cast<double>((r * 7919 + i * 104729) % 65537) - 32768.0;
  return static_cast<float>(x * (i % 3 == 0 ? 1e-3 : i % 3 == 1 ? 1.0 : 97.3));
}

std::string wrong(const std::string& what, index_t at) { return what + " is wrong at " + std::to_string(at); }

/// Uneven parts, some of them empty.
index_t length(index_t r, index_t round) { return (r * 5 + round * 3) % 7 * (round == 4 ? 1000 : 1); }

std::string all_gather(Communicator& line) {
  const index_t p = line.ranks();
  for (index_t round = 0; round < 6; ++round) {
    std::vector<index_t> counts;
    std::vector<float> expected, own;
    for (index_t r = 0; r < p; ++r) {
      counts.push_back(length(r, round));
      for (index_t i = 0; i < counts[r]; ++i) expected.push_back(number(r, i + round));
    }
    for (index_t i = 0; i < counts[line.rank()]; ++i) own.push_back(number(line.rank(), i + round));
    std::vector<float> all(expected.size(), -1.0f);
    const Traffic before = line.sent();
    line.all_gather(own, counts, all);
    if (all != expected) return wrong("all_gather, round", round);
    if (line.sent().all_gather - before.all_gather != own.size() * sizeof(float) * (p - 1)) return wrong("bytes of all_gather, round", round);
  }
  return "";
}

std::string all_reduce(Communicator& line) {
  const index_t p = line.ranks();
  for (const index_t size : {index_t{1}, index_t{2}, index_t{7}, index_t{64}, index_t{4099}}) {
    std::vector<float> x, expected;
    for (index_t i = 0; i < size; ++i) {
      x.push_back(number(line.rank(), i));
      float sum = number(0, i);
      for (index_t r = 1; r < p; ++r) sum += number(r, i);
      expected.push_back(sum);
    }
    const Traffic before = line.sent();
    line.all_reduce(x);
    if (x != expected) return wrong("all_reduce of size", size);
    const std::uint64_t sent = line.sent().all_reduce - before.all_reduce;
    // this rank's share goes out p-1 times, and of the rest everything once
    const index_t own = size * (line.rank() + 1) / p - size * line.rank() / p;
    if (sent != ((size - own) + own * (p - 1)) * sizeof(float)) return wrong("bytes of all_reduce of size", size);
  }
  return "";
}

std::string all_to_all(Communicator& line) {
  const index_t p = line.ranks();
  for (index_t round = 0; round < 5; ++round) {
    const auto count = [&](index_t from, index_t to) { return length(from + 2 * to, round); };
    std::vector<std::vector<float>> to(p);
    std::uint64_t expected = 8 * (p - 1);  // lengths
    for (index_t r = 0; r < p; ++r) {
      for (index_t i = 0; i < count(line.rank(), r); ++i) to[r].push_back(number(line.rank(), 10 * r + i));
      if (r != line.rank()) expected += to[r].size() * sizeof(float);
    }
    const Traffic before = line.sent();
    const std::vector<std::vector<float>> from = line.all_to_all(to);
    for (index_t r = 0; r < p; ++r)
      if (from[r].size() != count(r, line.rank())) return wrong("length of all_to_all, from rank", r);
    for (index_t r = 0; r < p; ++r)
      for (index_t i = 0; i < from[r].size(); ++i)
        if (from[r][i] != number(r, 10 * line.rank() + i)) return wrong("all_to_all, from rank", r);
    if (line.sent().all_to_all - before.all_to_all != expected) return wrong("bytes of all_to_all, round", round);
  }
  return "";
}

std::string broadcast(Communicator& line) {
  std::vector<float> x(1000);
  for (index_t i = 0; i < x.size(); ++i) x[i] = number(line.rank(), i);
  const Traffic before = line.sent();
  line.broadcast(x);
  for (index_t i = 0; i < x.size(); ++i)
    if (x[i] != number(0, i)) return wrong("broadcast", i);
  const std::uint64_t expected = line.rank() == 0 ? 4000 * (line.ranks() - 1) : 0;
  return line.sent().broadcast - before.broadcast == expected ? "" : "bytes of broadcast are wrong";
}

/// A rank that comes late finds what it had before, and what the others have now: nobody runs ahead.
std::string many_in_a_row(Communicator& line) {
  std::mt19937 random(static_cast<unsigned>(line.rank()));
  const index_t p = line.ranks();
  std::vector<float> x(33);
  for (int step = 0; step < 300; ++step) {
    if (random() % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 200));
    for (index_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(step + static_cast<int>(line.rank()));
    line.all_reduce(x);
    const float expected = static_cast<float>(static_cast<index_t>(step) * p + p * (p - 1) / 2);
    for (const float value : x)
      if (value != expected) return wrong("the sum in step", static_cast<index_t>(step));
    if (step % 7 == 0) line.barrier();
  }
  return "";
}

std::string columns(Communicator& line) {
  std::vector<Slice> slices;
  for (index_t r = 0, first = 0; r < line.ranks(); first = slices.back().end(), ++r) slices.push_back({first, 1 + r * 3 % 4});
  const Slice own = slices[line.rank()];
  Tensor<2> part = empty<2>({5, own.count});
  for (index_t n = 0; n < 5; ++n)
    for (index_t i = 0; i < own.count; ++i) part(n, i) = number(n, own.first + i);
  const Tensor<2> all = gather_columns(line, part, slices);
  for (index_t n = 0; n < 5; ++n)
    for (index_t i = 0; i < slices.back().end(); ++i)
      if (all(n, i) != number(n, i)) return wrong("gather_columns", i);
  return "";
}

}  // namespace

const std::vector<CommunicatorCheck>& communicator_checks() {
  static const std::vector<CommunicatorCheck> checks{
      {"all_gather of uneven parts", all_gather}, {"all_reduce in the order of ranks", all_reduce},
      {"all_to_all of uneven parts", all_to_all}, {"broadcast from rank 0", broadcast},
      {"many in a row", many_in_a_row},           {"gather_columns", columns}};
  return checks;
}

}  // namespace kv::test
