/// The generation loop: what is drawn, when it stops, what it costs.
#include "common/model/generate.hpp"

#include "common/files/error.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

const SmallCheckpoint& files() {
  static const SmallCheckpoint checkpoint;
  return checkpoint;
}

Decoder decoder_of(const Stage& stage, index_t sequences, index_t capacity) {
  return make_decoder(files().open(), stage, {.sequences = sequences, .capacity = capacity});
}
Decoder decoder_of(index_t sequences = 1, index_t capacity = 32) {
  return decoder_of(find_stage("preallocated"), sequences, capacity);
}

/// No call has been made that should not have been: on_logits and on_token are counted.
struct Calls {
  std::vector<std::pair<index_t, Token>> tokens;
  index_t logits = 0;
};
GenerateOptions counted(GenerateOptions options, Calls& calls) {
  options.on_token = [&](index_t sequence, Token token) { calls.tokens.emplace_back(sequence, token); };
  options.on_logits = [&](index_t, std::span<const float>) { ++calls.logits; };
  return options;
}

std::vector<Token> solo(const std::vector<Token>& prompt, const GenerateOptions& options) {
  Decoder decoder = decoder_of();
  return generate(decoder, {{0, prompt}}, options).tokens[0];
}

const std::vector<Token> prompt{5, 9, 33, 2, 40, 7, 7};

}  // namespace

TEST_CASE("greedy generation feeds back its own choices", "[generate]") {
  Decoder decoder = decoder_of(), by_hand = decoder_of();
  const Generation generation = generate(decoder, {{0, prompt}}, {.max_new_tokens = 8, .sampling = {}, .stop = {}});
  REQUIRE(generation.tokens.size() == 1);
  REQUIRE(generation.tokens[0].size() == 8);
  std::vector<Token> next = prompt;
  for (const Token token : generation.tokens[0]) {
    const Tensor<2> logits = by_hand.last_logits({{0, next}});
    CHECK(token == most_likely(row(logits, 0)));
    next = {token};
  }
  // The last token drawn is not fed.
  CHECK(decoder.length(0) == prompt.size() + 7);
}

TEST_CASE("the same tokens and the same logits from every stage", "[generate]") {
  const Sampling sampling = GENERATE(Sampling{}, Sampling{.temperature = 1.3, .top_k = 20, .top_p = 0.95, .seed = 4});
  std::vector<Token> expected;
  std::vector<float> expected_logits;
  for (const Stage& stage : stages_of_layers(Family::gqa)) {
    CAPTURE(stage.name, sampling.temperature);
    std::vector<float> logits;
    GenerateOptions options{.max_new_tokens = 12, .sampling = sampling, .stop = {}};
    options.on_logits = [&](index_t, std::span<const float> values) { logits.insert(logits.end(), values.begin(), values.end()); };
    Decoder decoder = decoder_of(stage, 1, 32);
    const std::vector<Token> tokens = generate(decoder, {{0, prompt}}, options).tokens[0];
    CHECK(logits.size() == 12 * 61);
    if (stage.name == "uncached") {
      expected = tokens;
      expected_logits = logits;
    }
    if (!stage.equality.exact()) continue;
    CHECK(tokens == expected);
    CHECK(logits == expected_logits);
  }
}

TEST_CASE("a stop token ends the sequence and is part of it", "[generate]") {
  const std::vector<Token> free = solo(prompt, {.max_new_tokens = 10, .sampling = {}, .stop = {}});
  const Token stop = free[3];
  const index_t first = static_cast<index_t>(std::ranges::find(free, stop) - free.begin());
  Calls calls;
  Decoder decoder = decoder_of();
  const Generation generation = generate(decoder, {{0, prompt}}, counted({.max_new_tokens = 10, .sampling = {}, .stop = {60, stop}}, calls));
  CHECK(generation.tokens[0] == part(free, 0, first + 1));
  CHECK(calls.tokens.size() == first + 1);
  CHECK(calls.tokens.back().second == stop);
  CHECK(calls.logits == first + 1);
  CHECK(decoder.length(0) == prompt.size() + first);  // the stop token is not fed
  CHECK(generation.metrics.new_tokens == first + 1);
}

TEST_CASE("a stop token in the prompt stops nothing", "[generate]") {
  const std::vector<Token> free = solo(prompt, {.max_new_tokens = 6, .sampling = {}, .stop = {}});
  std::vector<Token> harmless;  // in the prompt, never drawn
  for (const Token token : prompt)
    if (std::ranges::find(free, token) == free.end()) harmless.push_back(token);
  REQUIRE_FALSE(harmless.empty());
  CHECK(solo(prompt, {.max_new_tokens = 6, .sampling = {}, .stop = harmless}) == free);
}

TEST_CASE("batch and solo write the same, also when one stops early", "[generate]") {
  const std::vector<std::vector<Token>> prompts{prompt, {1}, {60, 59, 58, 1, 2, 3, 4, 5, 6, 7, 8, 9}};
  GenerateOptions options{.max_new_tokens = 9, .sampling = {}, .stop = {}};
  options.stop = {solo(prompts[1], options)[2]};
  if (GENERATE(false, true)) options.sampling = {.temperature = 1.5, .seed = 3};
  for (const Stage& stage : stages_of_layers(Family::gqa)) {
    if (!stage.equality.exact()) continue;
    CAPTURE(stage.name);
    Calls calls;
    Decoder decoder = decoder_of(stage, 3, 32);
    const Generation together = generate(decoder, {{2, prompts[0]}, {0, prompts[1]}, {1, prompts[2]}}, counted(options, calls));
    REQUIRE(together.tokens.size() == 3);
    index_t total = 0;
    for (index_t i = 0; i < 3; ++i) {
      CAPTURE(i);
      CHECK(together.tokens[i] == solo(prompts[i], options));
      total += together.tokens[i].size();
    }
    CHECK(calls.tokens.size() == total);
    std::vector<Token> heard;  // of sequence 1, which has the third prompt
    for (const auto& [sequence, token] : calls.tokens)
      if (sequence == 1) heard.push_back(token);
    CHECK(heard == together.tokens[2]);
  }
}

TEST_CASE("generation goes on where a conversation stands", "[generate]") {
  const GenerateOptions options{.max_new_tokens = 4, .sampling = {}, .stop = {}};
  Decoder decoder = decoder_of();
  const std::vector<Token> first = generate(decoder, {{0, prompt}}, options).tokens[0];
  const std::vector<Token> second = generate(decoder, {{0, {first.back(), 11, 12}}}, options).tokens[0];
  std::vector<Token> whole = prompt;
  whole.insert(whole.end(), first.begin(), first.end());
  whole.insert(whole.end(), {11, 12});
  CHECK(second == solo(whole, options));
}

TEST_CASE("what would not fit is refused before any work", "[generate]") {
  Decoder decoder = decoder_of(2, 10);
  Calls calls;
  const auto error = [&](const std::vector<NewTokens>& prompts, index_t max_new_tokens) {
    return error_of([&] { generate(decoder, prompts, counted({.max_new_tokens = max_new_tokens, .sampling = {}, .stop = {}}, calls)); });
  };
  const std::string one_too_many = error({{0, {1}}, {1, prompt}}, 5);  // 7 and 5, of which the last is not fed: 11
  CHECK(holds(one_too_many, "7 tokens and 5 new ones do not fit the capacity of 10"));
  CHECK(holds(error({{0, std::vector<Token>(11, 3)}}, 1), "11 tokens and 1 new ones do not fit"));
  CHECK(holds(error({{0, {1}}}, std::numeric_limits<index_t>::max()), "do not fit"));
  CHECK(holds(error({{0, {1}}, {0, {2}}}, 2), "stands twice"));
  CHECK(holds(error({{0, {1}}, {2, {2}}}, 2), "sequence 2 does not exist"));
  CHECK(holds(error({{0, {1}}, {1, {}}}, 2), "no new tokens"));
  CHECK(holds(error({{0, {1}}, {1, {61}}}, 2), "token id 61"));
  CHECK(calls.tokens.empty());
  CHECK(decoder.length(0) == 0);
  CHECK(decoder.length(1) == 0);
  CHECK(error({{0, {1}}, {1, prompt}}, 4) == "no error");  // exactly full
  CHECK(decoder.length(1) == 10);
}

TEST_CASE("bad sampling is refused before any work", "[generate]") {
  Decoder decoder = decoder_of();
  CHECK(holds(error_of([&] { generate(decoder, {{0, prompt}}, {.max_new_tokens = 2, .sampling = {.temperature = -1.0}, .stop = {}}); }),
              "temperature"));
  CHECK(decoder.length(0) == 0);
}

TEST_CASE("no new tokens, no work", "[generate]") {
  Decoder decoder = decoder_of();
  const Generation generation = generate(decoder, {{0, prompt}}, {.max_new_tokens = 0, .sampling = {}, .stop = {}});
  CHECK(generation.tokens[0].empty());
  CHECK(decoder.length(0) == 0);
  CHECK(generation.metrics.decode_tokens_per_s() == 0.0);
}

TEST_CASE("metrics count what was done", "[generate]") {
  Decoder decoder = decoder_of(2, 20);
  const Metrics metrics = generate(decoder, {{0, prompt}, {1, {1, 2, 3}}}, {.max_new_tokens = 5, .sampling = {}, .stop = {}}).metrics;
  CHECK(metrics.batch == 2);
  CHECK(metrics.prompt_tokens == 10);
  CHECK(metrics.new_tokens == 10);
  CHECK(metrics.step_ms.size() == 4);  // the first token of each comes from the prefill
  CHECK(metrics.prefill_ms > 0.0);
  CHECK(metrics.ttft_ms() == metrics.prefill_ms);
  CHECK(metrics.tpot_ms() > 0.0);
  CHECK(metrics.state_bytes == decoder.state_bytes());
  CHECK(metrics.state_tokens == 7 + 3 + 2 * 4);
  CHECK(metrics.state_bytes_per_token() == Approx(static_cast<double>(metrics.state_bytes.allocated) / 18.0));
}

TEST_CASE("metrics: the numbers behind the names", "[metrics]") {
  Metrics metrics;
  CHECK(metrics.tpot_ms() == 0.0);
  CHECK(metrics.prefill_tokens_per_s() == 0.0);
  CHECK(metrics.decode_tokens_per_s() == 0.0);
  CHECK(metrics.state_bytes_per_token() == 0.0);
  metrics = {.prompt_tokens = 100, .new_tokens = 8, .batch = 2, .prefill_ms = 50.0, .step_ms = {4.0, 1.0, 7.0}, .state_bytes = {.allocated = 600}, .state_tokens = 120};
  CHECK(metrics.tpot_ms() == 4.0);
  CHECK(metrics.prefill_tokens_per_s() == Approx(2000.0));
  CHECK(metrics.decode_tokens_per_s() == Approx(6 / 0.012));
  CHECK(metrics.state_bytes_per_token() == Approx(5.0));
  CHECK(median({}) == 0.0);
  CHECK(median({3.0, 1.0}) == 2.0);
  CHECK(median({9.0, 1.0, 2.0}) == 2.0);
  CHECK(peak_rss_bytes() > 1000000);
  JsonObject object;
  metrics.write(object);
  const Json json = Json::parse(object.text(), "metrics");
  for (const char* field : {"prompt_tokens", "new_tokens", "batch", "ttft_ms", "tpot_ms", "prefill_tokens_per_s", "decode_tokens_per_s",
                            "state_bytes", "state_bytes_per_token", "peak_rss_bytes"})
    CHECK(json.at(field).number() >= 0.0);
}
