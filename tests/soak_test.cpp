/// Long conversations over every stage: sequences grow, are cut, forked and begun anew, and at random moments one is compared with what
/// the stage promises. Memory stays what it was. 60 turns in every run; KV_SOAK_TURNS says how many instead (tests/slow: 2,000).
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <random>

#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/sanitized.hpp"

using namespace kv;
using namespace kv::test;

namespace {

constexpr index_t sequences = 3, capacity = 60;

index_t turns() {
  const char* const asked = std::getenv("KV_SOAK_TURNS");
  return asked ? std::stoul(asked) : 60;
}

std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t all = 0, resident = 0;
  statm >> all >> resident;
  return resident * 4096;
}

Tensor<1> row_of(const Tensor<2>& rows, index_t i) {
  Tensor<1> result = empty<1>({rows.shape(1)});
  std::ranges::copy(row(rows, i), result.begin());
  return result;
}

/// What people do with three conversations, in any order.
class Conversations {
 public:
  Conversations(const Checkpoint& checkpoint, const Stage& stage)
      : checkpoint_(checkpoint), stage_(stage), decoder_(make_decoder(checkpoint, stage, {.sequences = sequences, .capacity = capacity})),
        draw_(static_cast<unsigned>(stage.name.size())) {}

  /// Forgets, forks or begins anew, and then says something in one or several. The rows of logits are compared now and then.
  void turn() {
    const index_t sequence = below(sequences);
    switch (below(6)) {
      case 0: decoder_.truncate(sequence, below(decoder_.length(sequence) + 1)); break;
      case 1: decoder_.truncate(sequence, 0); break;
      case 2: fork(sequence, (sequence + 1) % sequences); break;
    }
    std::vector<NewTokens> batch;
    for (index_t s = 0; s < sequences; ++s)
      if (s == sequence || below(2) == 0) batch.push_back({s, words(s)});
    const Tensor<2> last = decoder_.last_logits(batch);
    if (below(20) != 0) return;
    for (index_t i = 0; i < batch.size(); ++i) compare(batch[i].sequence, row_of(last, i));
  }

  index_t compared() const { return compared_; }
  StateBytes bytes() const { return decoder_.state_bytes(); }

 private:
  index_t below(index_t end) { return draw_() % end; }

  void fork(index_t from, index_t to) {
    decoder_.truncate(to, 0);
    decoder_.share(from, to, below(decoder_.length(from) + 1));
  }

  /// At least one token, whatever room that takes from the beginning.
  std::vector<Token> words(index_t sequence) {
    const index_t count = 1 + below(9);
    if (decoder_.length(sequence) + count > capacity) decoder_.truncate(sequence, below(capacity / 2));
    std::vector<Token> tokens(count);
    for (Token& token : tokens) token = static_cast<Token>(below(decoder_.vocabulary()));
    return tokens;
  }

  void compare(index_t sequence, const Tensor<1>& found) {
    const Equality& equality = stage_.equality;
    const Tensor<2> all = whole_logits(checkpoint_, equality.lossy ? stage_ : find_stage(equality.reference), decoder_.tokens(sequence));
    const Tensor<1> expected = row_of(all, all.shape(0) - 1);
    if (equality.tolerance == 0.0)
      CHECK(exact(found, expected));
    else
      CHECK(close(found, expected, equality.tolerance, equality.reason));
    ++compared_;
  }

  const Checkpoint& checkpoint_;
  Stage stage_;
  Decoder decoder_;
  std::mt19937 draw_;
  index_t compared_ = 0;
};

}  // namespace

TEST_CASE("long conversations, cut, forked and begun anew, have the bits of short ones", "[soak]") {
  for (const char* name : {"llama-gqa", "mistral-window", "deepseek-v2-lite"}) {
    const Checkpoint checkpoint(golden(name));
    for (const Stage& stage : stages_of_layers(family(checkpoint.config()))) {
      INFO(name << ", stage " << stage.name);
      Conversations talk(checkpoint, stage);
      for (index_t i = 0; i < turns() / 4; ++i) talk.turn();
      const std::size_t early = resident_bytes();
      for (index_t i = turns() / 4; i < turns(); ++i) talk.turn();
      const std::size_t late = resident_bytes();
      CHECK(talk.bytes().used <= talk.bytes().allocated);
      CHECK((sanitized || late <= early + (std::size_t{4} << 20)));
      if (std::getenv("KV_SOAK_TURNS"))
        std::cout << name << ", " << stage.name << ": " << turns() << " turns, " << talk.compared() << " comparisons, resident "
                  << early / 1000 << " kB early, " << late / 1000 << " kB late\n";
    }
  }
}
