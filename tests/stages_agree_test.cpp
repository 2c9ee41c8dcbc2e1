/// Every stage of the table gives what stage `uncached` gives: bit for bit, or within the tolerance that the table
/// states with its reason. Stages and families of later chapters are tested here without another line.
#include <bit>

#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/instruction_sets.hpp"
#include "tests/support/model_oracle.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// Small models of the chapters 1 to 3, in every number format that a checkpoint may have.
std::vector<std::pair<std::string, SmallModel>> small_models() {
  return {{"f32", {}},
          {"bf16", {.type = DType::bf16, .seed = 2}},
          {"f16, multi-query, tied", {.query_heads = 5, .key_value_heads = 1, .type = DType::f16, .tied = true, .seed = 3}},
          {"qwen3 bf16, multi-head", {.qwen3 = true, .query_heads = 3, .key_value_heads = 3, .type = DType::bf16, .seed = 4}}};
}

/// One golden of every architecture that some stage runs on: whatever the book has come to.
std::vector<std::string> supported_goldens() {
  std::vector<std::string> names, architectures;
  for (const std::string& name : golden_names()) {
    if (!why_not_supported(golden(name)).empty()) continue;
    const Json config = Json::read(golden(name) / "config.json");
    const std::string architecture = config.at("architectures").at(index_t{0}).text();
    if (std::ranges::find(architectures, architecture) != architectures.end()) continue;
    architectures.push_back(architecture);
    names.push_back(name);
  }
  return names;
}

/// What the stage promises next to its reference. One that loses something on purpose promises the same bits as when it
/// is fed in one piece.
Comparison as_promised(const Stage& stage, const Tensor<2>& found, const Tensor<2>& expected) {
  const Equality& equality = stage.equality;
  return equality.tolerance == 0.0 ? exact(found, expected) : close(found, expected, equality.tolerance, equality.reason);
}

const Stage& reference() { return find_stage("uncached"); }

/// What as_promised compares with.
Tensor<2> expected_logits(const Checkpoint& checkpoint, const Stage& stage, const std::vector<Token>& tokens) {
  return whole_logits(checkpoint, stage.equality.lossy ? stage : find_stage(stage.equality.reference), tokens);
}

/// Runs `check` on small models of our own and on goldens.
void on_every_model(const std::function<void(const Checkpoint&)>& check) {
  for (const auto& [name, model] : small_models()) {
    INFO("model: " << name);
    const SmallCheckpoint files(model);
    check(files.open());
  }
  for (const std::string& name : supported_goldens()) {
    INFO("model: golden " << name);
    check(Checkpoint(golden(name)));
  }
}

index_t vocabulary(const Checkpoint& checkpoint) { return model_sizes(checkpoint.config()).vocabulary; }

}  // namespace

TEST_CASE("every stage is in the table once, with a reason where it is not exact", "[stages]") {
  std::vector<std::string_view> names;
  int chapter = 0;
  for (const Stage& stage : stages()) {
    CAPTURE(stage.name);
    CHECK(std::ranges::find(names, stage.name) == names.end());
    names.push_back(stage.name);
    CHECK(stage.chapter >= chapter);  // the order of the book
    chapter = stage.chapter;
    CHECK_FALSE(stage.families.empty());
    CHECK_FALSE(stage.idea.empty());
    CHECK(stage.equality.exact() == stage.equality.reason.empty());
    CHECK(!(stage.equality.lossy && stage.equality.tolerance > 0.0));  // a loss is measured, not promised
    CHECK(find_stage(stage.equality.reference).equality.exact());
    CHECK(stage.equality.tolerance >= 0.0);
    CHECK(stage.equality.tolerance < 0.05);
    CHECK(find_stage(stage.name).name == stage.name);
  }
  CHECK(stages().front().name == "uncached");
  for (const char* name : {"uncached", "concat", "preallocated"}) {
    CHECK(find_stage(name).equality.tolerance == 0.0);
    CHECK_FALSE(find_stage(name).families.empty());
  }
  CHECK(stages(Family::gqa).size() >= 3);
}

TEST_CASE("a stage is found by its chapter's number", "[stages]") {
  CHECK(find_stage("1").name == "uncached");
  CHECK(find_stage("02").name == "concat");
  CHECK(find_stage("03").name == "preallocated");
  for (const char* unknown : {"0", "99", "", "3x", "-3", "Uncached", " concat", "concat "}) {
    CAPTURE(unknown);
    CHECK(holds(error_of([&] { find_stage(unknown); }), "uncached, concat, preallocated"));
    CHECK_THROWS_AS(find_stage(unknown), UsageError);
  }
}

TEST_CASE("a stage refuses a family that it does not serve", "[stages]") {
  const SmallCheckpoint files;
  Stage stage = reference();
  stage.families.clear();
  CHECK(holds(error_of([&] { make_decoder(files.open(), stage, {.sequences = 1, .capacity = 4}); }), "'uncached' does not run"));
}

TEST_CASE("all stages of layers, any chunking", "[stages]") {
  on_every_model([](const Checkpoint& checkpoint) {
    const index_t count = 23;
    const std::vector<Token> tokens = random_tokens(count, vocabulary(checkpoint), 1);
    const std::vector<std::vector<index_t>> chunkings{
        {23}, std::vector<index_t>(count, 1), {22, 1}, {1, 22}, {16, 1, 1, 5}, random_chunks(count, 2), random_chunks(count, 3)};
    for (const Stage& stage : stages_of_layers(family(checkpoint.config()))) {
      const Tensor<2> expected = expected_logits(checkpoint, stage, tokens);
      for (const auto& chunks : chunkings) {
        CAPTURE(stage.name, chunks);
        Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = count});
        CHECK(as_promised(stage, logits_in_chunks(decoder, 0, tokens, chunks), expected));
      }
    }
  });
}

TEST_CASE("all stages of layers, a batch of ragged lengths against solo runs", "[stages]") {
  on_every_model([](const Checkpoint& checkpoint) {
    const index_t lengths[] = {5, 17, 1}, V = vocabulary(checkpoint);
    std::vector<std::vector<Token>> tokens;
    for (index_t b = 0; b < 3; ++b) tokens.push_back(random_tokens(lengths[b] + 3, V, static_cast<unsigned>(40 + b)));
    for (const Stage& stage : stages_of_layers(family(checkpoint.config()))) {
      CAPTURE(stage.name);
      std::vector<Tensor<2>> expected;
      for (index_t b = 0; b < 3; ++b) expected.push_back(expected_logits(checkpoint, stage, tokens[b]));
      Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 3, .capacity = 20});
      const Tensor<2> prefill = decoder.logits({{2, part(tokens[2], 0, 1)}, {0, part(tokens[0], 0, 5)}, {1, part(tokens[1], 0, 17)}});
      CHECK(as_promised(stage, rows(prefill, 0, 1), rows(expected[2], 0, 1)));
      CHECK(as_promised(stage, rows(prefill, 1, 5), rows(expected[0], 0, 5)));
      CHECK(as_promised(stage, rows(prefill, 6, 17), rows(expected[1], 0, 17)));
      for (index_t step = 0; step < 3; ++step) {
        std::vector<NewTokens> batch;
        for (index_t b = 0; b < 3; ++b) batch.push_back({b, {tokens[b][lengths[b] + step]}});
        const Tensor<2> logits = step == 1 ? decoder.last_logits(batch) : decoder.logits(batch);
        for (index_t b = 0; b < 3; ++b) {
          CAPTURE(step, b);
          CHECK(as_promised(stage, rows(logits, b, 1), rows(expected[b], lengths[b] + step, 1)));
        }
      }
    }
  });
}

TEST_CASE("all stages of layers, 1 thread against 2 and 3", "[stages]") {
  on_every_model([](const Checkpoint& checkpoint) {
    const std::vector<Token> tokens = random_tokens(19, vocabulary(checkpoint), 5);
    for (const Stage& stage : stages_of_layers(family(checkpoint.config()))) {
      std::vector<Tensor<2>> found;
      for (const index_t thread_count : {index_t{1}, index_t{2}, index_t{3}}) {
        const Machine machine(instruction_set(), thread_count);
        Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 19});
        found.push_back(logits_in_chunks(decoder, 0, tokens, {13, 1, 1, 4}));
      }
      CAPTURE(stage.name);
      CHECK(as_promised(stage, found[1], found[0]));
      CHECK(as_promised(stage, found[2], found[0]));
    }
  });
}

TEST_CASE("all stages of layers, every instruction set against the portable kernels", "[stages]") {
  on_every_model([](const Checkpoint& checkpoint) {
    const std::vector<Token> tokens = random_tokens(19, vocabulary(checkpoint), 6);
    for (const Stage& stage : stages_of_layers(family(checkpoint.config()))) {
      std::vector<Tensor<2>> found;
      for (const InstructionSet set : available_instruction_sets()) {
        const Machine machine(set, 1);
        Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 19});
        found.push_back(logits_in_chunks(decoder, 0, tokens, {12, 1, 1, 5}));
        CAPTURE(stage.name, name(set));
        CHECK(as_promised(stage, found.back(), found.front()));
      }
    }
  });
}

TEST_CASE("all stages of layers, truncate and go on as if fresh", "[stages]") {
  on_every_model([](const Checkpoint& checkpoint) {
    const index_t V = vocabulary(checkpoint);
    const std::vector<Token> tokens = random_tokens(15, V, 7), others = random_tokens(12, V, 8);
    for (const Stage& stage : stages_of_layers(family(checkpoint.config()))) {
      const Tensor<2> expected = expected_logits(checkpoint, stage, tokens);
      for (const index_t kept : {index_t{0}, index_t{1}, index_t{8}}) {
        CAPTURE(stage.name, kept);
        Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 20});
        if (kept > 0) decoder.logits(0, part(tokens, 0, kept));
        decoder.logits(0, others);
        decoder.truncate(0, kept);
        CHECK(decoder.length(0) == kept);
        CHECK(as_promised(stage, decoder.logits(0, part(tokens, kept, 15 - kept)), rows(expected, kept, 15 - kept)));
      }
    }
  });
}

TEST_CASE("all stages of layers, exactly the capacity and one more", "[stages]") {
  on_every_model([](const Checkpoint& checkpoint) {
    const index_t V = vocabulary(checkpoint), C = 9;
    const std::vector<Token> tokens = random_tokens(C, V, 9), short_one = random_tokens(4, V, 10);
    for (const Stage& stage : stages_of_layers(family(checkpoint.config()))) {
      CAPTURE(stage.name);
      const Tensor<2> expected = expected_logits(checkpoint, stage, tokens);
      const Tensor<2> expected_short = expected_logits(checkpoint, stage, short_one);
      Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 2, .capacity = C});
      decoder.logits({{0, part(short_one, 0, 2)}, {1, part(tokens, 0, 7)}});
      const std::size_t bytes = decoder.state_bytes().allocated;
      // only the second sequence of the batch overflows
      const std::string message = error_of([&] { decoder.logits({{0, part(short_one, 2, 1)}, {1, tokens}}); });
      CHECK(holds(message, "sequence 1 would have 16 tokens; the capacity is 9"));
      CHECK(decoder.tokens(0) == part(short_one, 0, 2));
      CHECK(decoder.tokens(1) == part(tokens, 0, 7));
      CHECK(decoder.state_bytes().allocated == bytes);
      const Tensor<2> next = decoder.logits({{0, part(short_one, 2, 1)}, {1, part(tokens, 7, 2)}});
      CHECK(as_promised(stage, rows(next, 0, 1), rows(expected_short, 2, 1)));
      CHECK(as_promised(stage, rows(next, 1, 2), rows(expected, 7, 2)));
      CHECK_THROWS_AS(decoder.logits(1, {tokens[0]}), Error);  // full
      CHECK(as_promised(stage, decoder.logits(0, {short_one[3]}), rows(expected_short, 3, 1)));
    }
  });
}

TEST_CASE("stage uncached agrees with the oracle on whole models", "[stages]") {
  for (const auto& [name, model] : small_models()) {
    CAPTURE(name);
    const SmallCheckpoint files(model);
    const std::vector<Token> tokens = random_tokens(21, model.vocabulary, 11);
    CHECK(close(whole_logits(files.open(), reference(), tokens), oracle::logits(files.open(), tokens), 2e-5,
                "the oracle is in double precision"));
  }
}
