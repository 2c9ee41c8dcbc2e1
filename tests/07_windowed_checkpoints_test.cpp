/// Chapter 7 on checkpoints that were made with windows: Mistral's, Qwen2's from max_window_layers on, Qwen3's by layer_types, and
/// their mixtures. Prompts are three windows long; what transformers computes is in golden/.
#include "chapters/07_long_context/ring_attention.hpp"
#include "common/files/npy.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/feed.hpp"
#include "tests/support/instruction_sets.hpp"
#include "tests/support/ladder.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

const std::vector<std::string> windowed{"mistral-window",   "mixtral-window",    "qwen2-window",
                                        "qwen2-moe-window", "qwen3-layer-types", "qwen3-moe-window"};

std::vector<Token> read_tokens(const std::string& name, const char* file) {
  const std::vector<std::int32_t> ids = read_npy_i32(golden(name) / file);
  return {ids.begin(), ids.end()};
}

std::vector<Token> continued(Decoder& decoder, const std::vector<Token>& prompt, index_t count) {
  std::vector<Token> text;
  Tensor<2> logits = decoder.last_logits({{0, prompt}});
  while (true) {
    text.push_back(static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    if (text.size() == count) return text;
    logits = decoder.last_logits({{0, {text.back()}}});
  }
}

}  // namespace

TEST_CASE("checkpoints with windows: every exact stage continues a prompt as transformers does", "[ring]") {
  const std::string name = GENERATE(from_range(windowed));
  const Checkpoint checkpoint(golden(name));
  const std::vector<Token> prompt = read_tokens(name, "tokens.npy"), expected = read_tokens(name, "greedy.npy");
  for (const Stage& stage : stages_of_layers(Family::gqa)) {
    if (stage.equality.lossy) continue;
    CAPTURE(name, stage.name);
    Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = prompt.size() + expected.size()});
    CHECK(continued(decoder, prompt, expected.size()) == expected);
  }
}

TEST_CASE("checkpoints with windows: ring equals uncached bit for bit, in any chunks", "[ring]") {
  const std::string name = GENERATE(from_range(windowed));
  const Checkpoint checkpoint(golden(name));
  const std::vector<Token> tokens = random_tokens(200, 97, 21);
  const Tensor<2> expected = whole_logits(checkpoint, find_stage("uncached"), tokens);
  for (const auto& chunks : {std::vector<index_t>{200}, std::vector<index_t>(200, 1), std::vector<index_t>{15, 16, 17, 130, 1, 21}}) {
    CAPTURE(name, chunks.size());
    Decoder decoder = make_decoder(checkpoint, find_stage("ring"), {.sequences = 1, .capacity = 200});
    CHECK(exact(logits_in_chunks(decoder, 0, tokens, chunks), expected));
  }
}

TEST_CASE("a ring's bytes are its layers' windows and a piece each; a layer without a window keeps everything", "[ring]") {
  const auto bytes = [](const char* name) {
    return make_decoder(Checkpoint(golden(name)), find_stage("ring"), {.sequences = 1, .capacity = 500}).state_bytes().allocated;
  };
  CHECK(bytes("mistral-window") == 2 * (15 + ring_piece) * 2 * (10 + 10) * 4);           // layers, rows, heads, D + W, f32
  CHECK(bytes("qwen3-layer-types") == (2 * (15 + ring_piece) + 500) * 2 * (16 + 16) * 4);
}

TEST_CASE("streaming leaves layers alone whose own window fits the budget", "[streaming]") {
  const std::vector<Token> tokens = random_tokens(120, 97, 22);
  const auto streamed = [&](const char* name, const char* budget) {
    Stage stage = find_stage("streaming");
    stage.options.set("budget", budget);
    return whole_logits(Checkpoint(golden(name)), stage, tokens);
  };
  const auto whole = [&](const char* name) { return whole_logits(Checkpoint(golden(name)), find_stage("uncached"), tokens); };
  CHECK(exact(streamed("mistral-window", "16"), whole("mistral-window")));
  CHECK_FALSE(exact(streamed("mistral-window", "15"), whole("mistral-window")));
  CHECK(exact(streamed("qwen3-layer-types", "120"), whole("qwen3-layer-types")));
  CHECK_FALSE(exact(streamed("qwen3-layer-types", "119"), whole("qwen3-layer-types")));  // the layer without a window forgets
}
