/// Ranks that are threads: the checks that every communicator must pass, and what happens when a rank fails.
#include <chrono>
#include <mutex>
#include <random>
#include <thread>

#include "chapters/10_tensor_parallel/thread_communicator.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/communicator_checks.hpp"
#include "tests/support/temporary.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// Runs `body` on every rank, and returns what each says.
std::vector<std::string> on_ranks(index_t ranks, const std::function<std::string(Communicator&)>& body) {
  const auto ends = thread_communicators(ranks);
  std::vector<std::string> said(ranks);
  std::vector<std::thread> threads;
  for (index_t r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      try {
        said[r] = body(*ends[r]);
      } catch (const std::exception& error) {
        said[r] = error.what();
      }
      if (said[r] != "") ends[r]->abort(said[r]);  // it takes no part any more: nobody waits for it
    });
  for (std::thread& thread : threads) thread.join();
  return said;
}

}  // namespace

TEST_CASE("threads: what every communicator must do", "[communicator]") {
  const index_t ranks = GENERATE(1, 2, 3, 4, 8);
  for (const CommunicatorCheck& check : communicator_checks()) {
    CAPTURE(ranks, check.name);
    for (const std::string& said : on_ranks(ranks, check.run)) CHECK(said == "");
  }
}

TEST_CASE("threads: a rank that throws at a random moment takes the others with it", "[communicator]") {
  std::mt19937 random(1);
  for (int run = 0; run < 100; ++run) {
    const index_t ranks = 2 + random() % 4, guilty = random() % ranks, moment = random() % 40;
    CAPTURE(run, ranks, guilty, moment);
    const auto begin = std::chrono::steady_clock::now();
    const auto said = on_ranks(ranks, [&](Communicator& line) -> std::string {
      std::vector<float> x(100, 1.0f);
      for (index_t step = 0;; ++step) {
        if (line.rank() == guilty && step == moment) throw Error("rank " + std::to_string(guilty) + " is out of paper");
        step % 3 == 0 ? line.barrier() : line.all_reduce(x);
      }
    });
    for (const std::string& each : said) CHECK(each == "rank " + std::to_string(guilty) + " is out of paper");
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
  }
}

TEST_CASE("threads: of two that fail the first one says why", "[communicator]") {
  const auto ends = thread_communicators(3);
  ends[1]->abort("the first");
  ends[2]->abort("the second");
  for (const auto& end : ends) CHECK(error_of([&] { end->barrier(); }) == "the first");
}

TEST_CASE("threads: ranks that do not agree on a size are told", "[communicator]") {
  const auto said = on_ranks(2, [](Communicator& line) -> std::string {
    std::vector<float> x(line.rank() == 0 ? 4 : 5);
    line.broadcast(x);
    return "";
  });
  CHECK(holds(said[1], "another number of bytes"));
  CHECK_THROWS_AS(thread_communicators(0), std::invalid_argument);
}
