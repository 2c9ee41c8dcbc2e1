/// What the system's allocator is asked for. A decode step that writes in place asks for nothing; one that concatenates
/// or remembers nothing asks in every step. Counted in malloc and its relatives, in all threads.
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <thread>

#include "chapters/decoders.hpp"
#include "common/tensor/parallel.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/sanitized.hpp"

using namespace kv;

namespace {

std::atomic<std::size_t> calls;

}  // namespace

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t bytes) { return ++calls, __libc_malloc(bytes); }
void* calloc(std::size_t count, std::size_t bytes) { return ++calls, __libc_calloc(count, bytes); }
void* realloc(void* block, std::size_t bytes) { return ++calls, __libc_realloc(block, bytes); }
void* memalign(std::size_t alignment, std::size_t bytes) { return ++calls, __libc_memalign(alignment, bytes); }
void* aligned_alloc(std::size_t alignment, std::size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** block, std::size_t alignment, std::size_t bytes) {
  *block = memalign(alignment, bytes);
  return *block ? 0 : ENOMEM;
}
}

namespace {

/// Calls in each step of a text behind its first ten tokens.
std::vector<std::size_t> calls_of_steps(Decoder& decoder, index_t sequence) {
  std::vector<NewTokens> next{{sequence, {0}}};
  std::vector<std::size_t> result(250);
  for (index_t i = 0; i < result.size(); ++i) {
    next[0].tokens[0] = static_cast<Token>(3 + i * 37 % 500);
    const std::size_t before = calls;
    decoder.last_logits(next);
    result[i] = calls - before;
  }
  return {result.begin() + 10, result.end()};
}

std::vector<std::size_t> calls_of_steps(const std::string& model, const std::string& stage) {
  Decoder decoder = make_decoder(Checkpoint(KV_DATA "/" + model), find_stage(stage), {.sequences = 2, .capacity = 256});
  calls_of_steps(decoder, 0);  // packs every expert that a step will choose: weights are loaded when first needed
  return calls_of_steps(decoder, 1);
}

struct Case {
  std::string model, stage;
};

}  // namespace

TEST_CASE("a decode step of a preallocated cache asks for nothing, but for what a thread keeps that is new to it",
          "[allocations]") {
  const auto [model, stage] = GENERATE(Case{"tiny-gqa", "preallocated"}, Case{"tiny-mla", "preallocated"},
                                       Case{"tiny-mla", "absorbed"}, Case{"tiny-mla", "latent"});
  const index_t before = threads();
  for (const index_t count : {1, 2}) {
    set_threads(count);
    CAPTURE(model, stage, count);
    const std::vector<std::size_t> steps = calls_of_steps(model, stage);
    // A thread that takes part for the first time, in whatever step, has the destructors of thread_local variables registered by
    // the C library, a call each: attend's six and linear()'s three.
    CHECK(std::accumulate(steps.begin(), steps.end(), std::size_t{0}) <= 9 * (count - 1));
  }
  set_threads(before);
}

TEST_CASE("one that concatenates or starts anew asks in every step, once tensors are not small", "[allocations]") {
  const auto [model, stage] = GENERATE(Case{"tiny-gqa", "concat"}, Case{"tiny-gqa", "uncached"},
                                       Case{"tiny-mla", "concat"}, Case{"tiny-mla", "uncached"});
  CAPTURE(model, stage);
  const std::vector<std::size_t> steps = calls_of_steps(model, stage);
  CHECK(std::all_of(steps.begin() + 20, steps.end(), [](std::size_t calls) { return calls > 0; }));
}
#endif

TEST_CASE("what one thread gives back, another gets: blocks of exactly this size", "[allocations]") {
  const std::size_t bytes = GENERATE(1, 64, 4096, 4097, 1 << 20);
  CAPTURE(bytes);
  void* const block = take_block(bytes);
  CHECK(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
  std::thread([&] { give_block(block, bytes); }).join();
  void* const other = take_block(bytes + 64);
  CHECK(other != block);
  void* const same = take_block(bytes);
  CHECK((test::sanitized || same == block));
  give_block(other, bytes + 64);
  give_block(same, bytes);
}

#ifdef KV_CHECKED
TEST_CASE("checked: new floats are NaN, in a block that was used before too", "[allocations]") {
  const index_t count = GENERATE(8, 5000);
  for (int use = 0; use < 2; ++use) {
    Tensor<1> x = empty<1>({count});
    CHECK(std::ranges::all_of(x, [](float value) { return std::isnan(value); }));
    x.fill(1.0f);
  }
}
#endif
