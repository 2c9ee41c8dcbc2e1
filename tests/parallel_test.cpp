#include "common/tensor/parallel.hpp"

#include <atomic>
#include <chrono>
#include <ctime>
#include <stdexcept>
#include <thread>

#include "tests/support/catch.hpp"
#include "tests/support/instruction_sets.hpp"

using namespace kv;
using namespace kv::test;

TEST_CASE("parallel_for covers every index once", "[parallel]") {
  const index_t thread_count = GENERATE(1, 2, 3, 8);
  const index_t count = GENERATE(0, 1, 2, 7, 64, 1000);
  const index_t grain = GENERATE(0, 1, 4, 33, 5000);
  const Machine machine(instruction_set(), thread_count);
  CAPTURE(thread_count, count, grain);
  CHECK(threads() == thread_count);
  std::vector<std::atomic<int>> calls(count);
  std::atomic<bool> aligned = true;
  parallel_for(count, grain, [&](index_t first, index_t last) {
    if (first >= last || (grain > 0 && first % grain != 0)) aligned = false;
    for (index_t i = first; i < last; ++i) ++calls[i];
  });
  CHECK(aligned);
  for (const auto& number : calls) REQUIRE(number == 1);
}

TEST_CASE("parallel_for: many short loops, and pauses long enough to fall asleep", "[parallel]") {
  const Machine machine(instruction_set(), 3);
  std::atomic<index_t> sum = 0;
  for (int loop = 0; loop < 3000; ++loop) {
    if (loop % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    parallel_for(12, 1, [&](index_t first, index_t last) { sum += last - first; });
  }
  CHECK(sum == 3000 * 12);
}

TEST_CASE("parallel_for uses several threads at once", "[parallel]") {
  const Machine machine(instruction_set(), 2);
  std::atomic<int> inside = 0;
  std::atomic<bool> met = false;
  parallel_for(2, 1, [&](index_t, index_t) {  // each waits for the other
    ++inside;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!met && std::chrono::steady_clock::now() < deadline)
      if (inside == 2) met = true;
  });
  CHECK(met);
}

TEST_CASE("parallel_for: calls inside a body run serially, in its thread", "[parallel]") {
  const Machine machine(instruction_set(), 4);
  std::atomic<int> strangers = 0, ranges = 0, refusals = 0;
  parallel_for(16, 1, [&](index_t, index_t) {
    const auto self = std::this_thread::get_id();
    parallel_for(100, 1, [&](index_t, index_t) {
      ++ranges;
      if (std::this_thread::get_id() != self) ++strangers;
    });
    try {
      set_threads(2);
    } catch (const std::logic_error&) {
      ++refusals;
    }
  });
  CHECK(strangers == 0);
  CHECK(ranges == 16);
  CHECK(refusals == 16);
}

TEST_CASE("parallel_for rethrows, and works afterwards", "[parallel]") {
  const Machine machine(instruction_set(), GENERATE(1, 3));
  for (const index_t bad : {0, 5, 99}) {
    const auto fail = [&](index_t first, index_t last) {
      if (first <= bad && bad < last) throw std::runtime_error("here");
    };
    CHECK_THROWS_WITH(parallel_for(100, 1, fail), "here");
  }
  std::atomic<index_t> sum = 0;
  parallel_for(100, 1, [&](index_t first, index_t last) { sum += last - first; });
  CHECK(sum == 100);
  CHECK_THROWS_AS(set_threads(0), std::invalid_argument);
}

TEST_CASE("parallel_for from several threads at once", "[parallel]") {
  const Machine machine(instruction_set(), 2);
  std::atomic<index_t> sum = 0;
  const auto loops = [&] {
    for (int loop = 0; loop < 500; ++loop)
      parallel_for(20, 1, [&](index_t first, index_t last) { sum += last - first; });
  };
  std::thread other(loops);
  loops();
  other.join();
  CHECK(sum == 2 * 500 * 20);
}

TEST_CASE("a share of threads is used where it is in use, and by nobody else", "[parallel]") {
  const Machine machine(instruction_set(), 2);
  std::atomic<index_t> sum = 0;
  const auto work = [&](index_t count) {
    ThreadShare share(count);
    const ThreadShare::Use use(share);
    if (threads() != count) sum += 1000;
    std::atomic<int> inside = 0;
    std::atomic<bool> met = count == 1;
    parallel_for(count, 1, [&](index_t, index_t) {  // all of them are there at once
      ++inside;
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
      while (!met && std::chrono::steady_clock::now() < deadline)
        if (inside == static_cast<int>(count)) met = true;
    });
    if (met) sum += count;
  };
  std::thread other(work, 3);
  work(1);
  other.join();
  CHECK(sum == 4);
  CHECK(threads() == 2);
  CHECK_THROWS_AS(ThreadShare(0), std::invalid_argument);
}

TEST_CASE("idle threads use no processor", "[parallel]") {
  const Machine machine(instruction_set(), 4);
  parallel_for(100, 1, [](index_t, index_t) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  CHECK(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC < 0.05);
}
