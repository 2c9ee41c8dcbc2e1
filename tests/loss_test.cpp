/// The loss of a text against a log-softmax written out in double, and against what the training program measured.
#include "common/model/loss.hpp"

#include <cmath>

#include "chapters/studies/expert_usage.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// -log of the softmax, from its definition, in long double and without taking the largest out.
double by_hand(const Tensor<2>& logits, index_t t, Token token) {
  long double sum = 0;
  for (index_t v = 0; v < logits.shape(1); ++v) sum += std::exp(static_cast<long double>(logits(t, v)));
  return static_cast<double>(-std::log(std::exp(static_cast<long double>(logits(t, static_cast<index_t>(token)))) / sum));
}

/// Every window computed alone by the stage that keeps nothing.
Loss expected_loss(const Checkpoint& checkpoint, const std::vector<Token>& tokens, index_t window) {
  Loss loss;
  for (index_t start = 0; start + 1 < tokens.size(); start += window - 1) {
    const std::vector<Token> piece = part(tokens, start, std::min(window, tokens.size() - start));
    const Tensor<2> logits = whole_logits(checkpoint, find_stage("uncached"), piece);
    for (index_t t = 0; t + 1 < piece.size(); ++t) loss += {1, by_hand(logits, t, piece[t + 1])};
  }
  return loss;
}

}  // namespace

TEST_CASE("a token's loss from its logits", "[perplexity]") {
  const std::vector<float> even(8, 3.0f), large{1000.0f, 1000.0f, -1000.0f};
  CHECK(negative_log_likelihood(even, 5) == Approx(std::log(8.0)));
  CHECK(negative_log_likelihood(large, 1) == Approx(std::log(2.0)));
  CHECK(negative_log_likelihood(large, 2) == Approx(2000.0 + std::log(2.0)));
  const std::vector<float> random = random_floats(500, 3, -20.0f, 20.0f);
  double all = 0;
  for (Token v = 0; v < 500; ++v) all += std::exp(-negative_log_likelihood(random, v));
  CHECK(all == Approx(1.0).epsilon(1e-12));
  CHECK_THROWS_AS(negative_log_likelihood(even, 8), std::out_of_range);
  CHECK_THROWS_AS(negative_log_likelihood(even, -1), std::out_of_range);
  for (const float broken : {NAN, INFINITY})
    for (const index_t place : {0, 3, 7}) {
      std::vector<float> logits = even;
      logits[place] = broken;
      CHECK(holds(error_of([&] { negative_log_likelihood(logits, 5); }), "not finite"));
    }
}

// rel 1e-12: the same logits, another order of the sum in double.
TEST_CASE("a text's loss: every token but the first once, whatever the window and the stage", "[perplexity]") {
  const SmallCheckpoint small(SmallModel{.context = 400});
  const auto stage = GENERATE(as<std::string>(), "uncached", "preallocated");
  const auto [size, window] = GENERATE(table<index_t, index_t>({{2, 2}, {2, 400}, {3, 2}, {9, 2}, {300, 400}, {300, 300}, {300, 299}, {300, 151}, {300, 150}, {129, 129}, {130, 400}}));
  CAPTURE(stage, size, window);
  const std::vector<Token> tokens = random_tokens(size, 61, 4);
  const Checkpoint checkpoint = small.open();
  Decoder decoder = make_decoder(checkpoint, find_stage(stage), {.sequences = 1, .capacity = std::min(size, window) - 1});
  decoder.logits(0, {7});  // what was there before does not matter
  index_t reported = 0;
  const Loss found = text_loss(decoder, tokens, window, [&](index_t count) { reported = count; });
  const Loss expected = expected_loss(checkpoint, tokens, window);
  CHECK(found.predictions == size - 1);
  CHECK(reported == size - 1);
  CHECK(found.total == Approx(expected.total).epsilon(1e-12));
  CHECK(found.perplexity() == Approx(std::exp(expected.total / static_cast<double>(size - 1))).epsilon(1e-12));
}

TEST_CASE("texts add up by their tokens, not by their means", "[perplexity]") {
  Loss all{1, 4.0};
  all += {3, 2.0};
  CHECK(all.predictions == 4);
  CHECK(all.mean() == 1.5);
  CHECK(all.perplexity() == Approx(std::exp(1.5)));
}

TEST_CASE("nothing to predict is an error", "[perplexity]") {
  const SmallCheckpoint small;
  Decoder decoder = make_decoder(small.open(), find_stage("preallocated"), {.sequences = 1, .capacity = 8});
  CHECK(holds(error_of([&] { text_loss(decoder, {5}, 8); }), "at least two tokens"));
  CHECK(holds(error_of([&] { text_loss(decoder, {}, 8); }), "at least two tokens"));
  CHECK_THROWS_AS(text_loss(decoder, {5, 6}, 1), std::invalid_argument);
}

// The training program drew other texts from the same grammar, 100 and more of each kind: near, and in the same order.
TEST_CASE("the shipped models' losses are near those that training measured", "[perplexity]") {
  const auto model = GENERATE(as<std::string>(), "tiny-gqa", "tiny-mla");
  const std::filesystem::path data(KV_DATA);
  const Checkpoint checkpoint(data / model);
  const Tokenizer tokenizer(data / model / "tokenizer.json");
  const Json expected = Json::read(data / model / "evaluation.json").at("validation_loss");
  Decoder decoder = make_decoder(checkpoint, find_stage("preallocated"), {.sequences = 1, .capacity = 1024});
  for (const std::string kind : {"story", "copy"}) {
    CAPTURE(model, kind);
    const Loss loss = text_loss(decoder, tokenizer.encode_with_special(contents_of(data / "held_out" / (kind + ".txt"))), 1024);
    CHECK(loss.mean() == Approx(expected.at(kind).number()).epsilon(0.15));
  }
}
