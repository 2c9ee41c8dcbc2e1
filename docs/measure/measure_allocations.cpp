#include <sys/wait.h>
#include <unistd.h>

#include <map>

#include "common/text/table.hpp"
#include "common/files/error.hpp"
#include "common/tensor/parallel.hpp"
#include "docs/measure/heap.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

/// Feeds a whole context token by token, each sequence in turn in one batch.
template <class AfterStep>
void write_text(Decoder& decoder, const std::vector<Token>& text, index_t sequences, AfterStep after_step) {
  for (const Token token : text) {
    std::vector<NewTokens> batch;
    for (index_t b = 0; b < sequences; ++b) batch.push_back({b, {token}});
    decoder.last_logits(batch);
    after_step();
  }
}

/// Bytes that concatenating writes into caches while n tokens come one by one: the formula of chapter 2.
std::size_t copied_by_formula(const ModelShape& shape, index_t n) {
  return 4 * shape.layers * shape.key_value_heads * 2 * shape.head_width * (n * (n + 1) / 2);
}

void measure_traffic(const Laboratory& laboratory, Report& report) {
  const std::vector<Token> text = laboratory.tokens(laboratory.context());
  std::map<std::string, HeapTraffic> traffic;
  for (const std::string stage : {"concat", "preallocated"}) {
    Decoder decoder = laboratory.decoder(stage);
    write_text(decoder, {text.front()}, 1, [] {});  // threads and their scratch memory
    decoder.truncate(0, 0);
    reset_heap_traffic();
    write_text(decoder, text, 1, [] {});
    traffic[stage] = heap_traffic();
  }
  const HeapTraffic &concat = traffic["concat"], &preallocated = traffic["preallocated"];
  const index_t n = text.size();
  const auto signed_difference = [](std::size_t a, std::size_t b) {
    return a >= b ? grouped(a - b) : "-" + grouped(b - a);
  };
  const auto row = [&](const std::string& what, std::size_t HeapTraffic::*field) {
    return std::vector<std::string>{what, grouped(concat.*field), grouped(preallocated.*field),
                                    signed_difference(concat.*field, preallocated.*field)};
  };
  report.table("allocations",
               {{"while " + grouped(n) + " tokens are fed one by one", "concat", "preallocated", "the cache's part"},
                row("calls to the allocator", &HeapTraffic::allocations),
                row("bytes asked for", &HeapTraffic::bytes),
                {"largest single block, bytes", grouped(concat.largest), grouped(preallocated.largest), "-"}},
               "Counted in operator new, activations included. Storage that was given back is used again where the size is "
               "the same, and tensors of up to 4 KB are cut from larger blocks; so what is left is the cache's. Every byte of "
               "a cache tensor is written once: bytes asked for are bytes copied. The formula says " +
                   grouped(copied_by_formula(laboratory.shape(), n)) + ".");
  std::vector<JsonObject> rows;
  for (const auto& [stage, found] : traffic) {
    JsonObject object;
    object.set("stage", stage).set("tokens", n).set("allocations", found.allocations).set("bytes", found.bytes)
        .set("largest_block", found.largest);
    rows.push_back(object);
  }
  report.numbers("allocations", rows);
}

/// What a text leaves behind on the heap. All bytes are above those before the cache was made.
struct Holding {
  std::size_t state_bytes, in_use, held;
  std::size_t idle;  ///< the most that was held and not in use at one time
  std::size_t peak;  ///< the most that was live at one time
};

Holding holding(const Laboratory& laboratory, const std::string& stage, index_t sequences) {
  const std::vector<Token> text = laboratory.tokens(laboratory.context());
  const auto above = [](std::size_t value, std::size_t base) { return value > base ? value - base : 0; };
  Decoder weights = laboratory.decoder("uncached");  // packs them, and keeps them for the other decoder
  weights.last_logits({{0, {text.front()}}});
  trim_heap();
  const HeapHolding before = heap_holding();
  reset_heap_traffic();
  Decoder decoder = laboratory.decoder(stage, sequences);
  std::size_t idle = 0;
  write_text(decoder, text, sequences, [&] {
    const HeapHolding now = heap_holding();
    idle = std::max(idle, now.held - now.in_use);
  });
  const HeapHolding after = heap_holding();
  return {.state_bytes = decoder.state_bytes().allocated,
          .in_use = above(after.in_use, before.in_use),
          .held = above(after.held, before.held),
          .idle = idle,
          .peak = heap_traffic().peak_above_start};
}

/// holding(), in a process of its own: a heap with the holes of earlier measurements says nothing.
Holding holding_on_fresh_heap(const Laboratory& laboratory, const std::string& stage, index_t sequences) {
  int ends[2];
  if (pipe(ends) != 0) throw Error("no pipe to a child process");
  const pid_t child = fork();
  if (child < 0) throw Error("no child process");
  if (child == 0) {
    const Holding found = holding(laboratory, stage, sequences);
    _exit(write(ends[1], &found, sizeof found) == sizeof found ? 0 : 1);
  }
  close(ends[1]);
  Holding found{};
  const bool complete = read(ends[0], &found, sizeof found) == sizeof found;
  close(ends[0]);
  waitpid(child, nullptr, 0);
  if (!complete) throw Error("the child process that measures the heap failed");
  return found;
}

void measure_holding(const Laboratory& laboratory, Report& report) {
  MarkdownTable table{{"stage, sequences", "state", "in use at the end", "held at the end", "idle at worst", "live at most"}};
  std::vector<JsonObject> rows;
  const index_t usual_threads = threads();
  set_threads(1);  // a child process has no other threads
  for (const index_t sequences : {index_t{1}, index_t{8}})
    for (const std::string stage : {"concat", "preallocated"}) {
      const Holding found = holding_on_fresh_heap(laboratory, stage, sequences);
      table.push_back({stage + ", " + std::to_string(sequences), grouped(found.state_bytes), grouped(found.in_use),
                       grouped(found.held), grouped(found.idle), grouped(found.peak)});
      JsonObject object;
      object.set("stage", stage).set("sequences", sequences).set("state_bytes", found.state_bytes).set("in_use", found.in_use)
          .set("held", found.held).set("idle_at_worst", found.idle).set("live_at_most", found.peak);
      rows.push_back(object);
    }
  set_threads(usual_threads);
  report.table("fragmentation", table,
               "Bytes, above those before the cache was made, while " + grouped(laboratory.context()) +
                   " tokens were fed to every sequence one by one, activations included. In use, held and idle (held, but "
                   "not in use) as glibc counts them; live as counted in operator new.");
  report.numbers("fragmentation", rows);
}

}  // namespace

void measure_allocations(const Laboratory& laboratory, Report& report) {
  measure_holding(laboratory, report);
  measure_traffic(laboratory, report);
}

}  // namespace kv::book
