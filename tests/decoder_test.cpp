/// The decoder around the seams: what it refuses, and that a refusal or a failure changes nothing.
#include "common/model/decoder.hpp"

#include "common/files/error.hpp"
#include "common/model/layer_stack.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// Fails on demand, after the attention it wraps has done its work.
class FailingAttention : public Attention {
 public:
  FailingAttention(std::unique_ptr<Attention> attention, const bool& fails) : attention_(std::move(attention)), fails_(&fails) {}
  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override {
    Tensor<2> y = attention_->forward(x, batch);
    if (*fails_) throw std::bad_alloc();
    return y;
  }
  index_t length(index_t sequence) const override { return attention_->length(sequence); }
  void truncate(index_t sequence, index_t length) override { attention_->truncate(sequence, length); }
  std::size_t state_bytes() const override { return attention_->state_bytes(); }

 private:
  std::unique_ptr<Attention> attention_;
  const bool* fails_;
};

/// A decoder whose layer 1 of 3 fails while `fails` is true.
Decoder failing_decoder(const Checkpoint& checkpoint, const Stage& stage, const Limits& limits, const bool& fails) {
  const ModelSizes sizes = model_sizes(checkpoint.config());
  const index_t M = sizes.width, V = sizes.vocabulary;
  LayerStackParts parts{.embedding = checkpoint.matrix("model.embed_tokens.weight", V, M),
                        .embedding_owner = std::make_shared<Checkpoint>(checkpoint),
                        .layers = {},
                        .final_norm = checkpoint.vector("model.norm.weight", M),
                        .head = checkpoint.linear("lm_head.weight", V, M),
                        .norm_epsilon = sizes.norm_epsilon};
  for (index_t layer = 0; layer < sizes.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    std::unique_ptr<Attention> attention = make_attention(checkpoint, stage, layer, limits);
    if (layer == 1) attention = std::make_unique<FailingAttention>(std::move(attention), fails);
    parts.layers.push_back({checkpoint.vector(prefix + "input_layernorm.weight", M), std::move(attention),
                            checkpoint.vector(prefix + "post_attention_layernorm.weight", M), feed_forward(checkpoint, layer)});
  }
  return {std::make_unique<LayerStack>(std::move(parts)), limits};
}

Decoder decoder_of(const SmallCheckpoint& files, index_t sequences = 2, index_t capacity = 12) {
  return make_decoder(files.open(), find_stage("preallocated"), {.sequences = sequences, .capacity = capacity});
}

}  // namespace

TEST_CASE("a decoder starts empty and tells its limits", "[decoder]") {
  const SmallCheckpoint files;
  const Decoder decoder = decoder_of(files, 3, 7);
  CHECK(decoder.limits().sequences == 3);
  CHECK(decoder.limits().capacity == 7);
  CHECK(decoder.vocabulary() == 61);
  CHECK(decoder.length(2) == 0);
  CHECK(decoder.tokens(0).empty());
  CHECK_THROWS_AS(decoder.length(3), std::out_of_range);
}

TEST_CASE("a decoder outlives the checkpoint and the names it was made from", "[decoder]") {
  const std::vector<Token> tokens = random_tokens(5, 61, 1);
  auto files = std::make_unique<SmallCheckpoint>();
  const Tensor<2> expected = whole_logits(files->open(), find_stage("concat"), tokens);
  Decoder decoder = decoder_of(*files);
  files.reset();  // the files are gone; the mapping is not
  CHECK(exact(decoder.logits(0, tokens), expected));
}

TEST_CASE("logits has a row for every new token, last_logits one for each sequence, in the order given", "[decoder]") {
  const SmallCheckpoint files;
  const std::vector<Token> a = random_tokens(5, 61, 2), b = random_tokens(3, 61, 3);
  for (const Stage& stage : stages_of_layers(Family::gqa)) {
    CAPTURE(stage.name);
    const Limits limits{.sequences = 2, .capacity = 12};
    Decoder all = make_decoder(files.open(), stage, limits), last = make_decoder(files.open(), stage, limits);
    for (int round = 0; round < 2; ++round) {
      const Tensor<2> every = all.logits({{1, a}, {0, b}}), ends = last.last_logits({{1, a}, {0, b}});
      CHECK(every.shape(0) == 8);
      CHECK(ends.shape(0) == 2);
      CHECK(exact(rows(ends, 0, 1), rows(every, 4, 1)));
      CHECK(exact(rows(ends, 1, 1), rows(every, 7, 1)));
    }
    CHECK(all.length(1) == 10);
    CHECK(all.length(0) == 6);
    CHECK(all.tokens(0).front() == b.front());
  }
}

TEST_CASE("remembered tells the stages that keep tokens from the one that does not", "[decoder]") {
  const SmallCheckpoint files;
  for (const Stage& stage : stages_of_layers(Family::gqa)) {
    Decoder decoder = make_decoder(files.open(), stage, {.sequences = 1, .capacity = 9});
    decoder.logits(0, {1, 2, 3});
    CAPTURE(stage.name);
    CHECK(decoder.remembered(0) == (stage.name == "uncached" ? 0u : 3u));
  }
}

TEST_CASE("state bytes are those of all layers", "[decoder]") {
  const SmallCheckpoint files({.layers = 3, .key_value_heads = 2, .head_width = 10});
  const index_t per_token = 3 * 2 * (10 + 10) * 4;  // layers, heads, keys and values, bytes of f32
  const auto bytes = [&](const char* stage) {
    Decoder decoder = make_decoder(files.open(), find_stage(stage), {.sequences = 2, .capacity = 12});
    decoder.logits({{0, {1, 2, 3}}, {1, {4, 5}}});
    return decoder.state_bytes();
  };
  CHECK(bytes("uncached") == 0);
  CHECK(bytes("concat") == 5 * per_token);
  CHECK(bytes("preallocated") == 2 * 12 * per_token);
}

TEST_CASE("what a decoder refuses, it names, and nothing changes", "[decoder]") {
  const SmallCheckpoint files;
  for (const Stage& stage : stages_of_layers(Family::gqa)) {
    CAPTURE(stage.name);
    Decoder decoder = make_decoder(files.open(), stage, {.sequences = 2, .capacity = 6});
    Decoder untouched = make_decoder(files.open(), stage, {.sequences = 2, .capacity = 6});
    decoder.logits({{0, {1, 2}}, {1, {3}}});
    untouched.logits({{0, {1, 2}}, {1, {3}}});
    const auto error = [&](const std::vector<NewTokens>& batch) {
      return error_of([&] { decoder.logits(batch); });
    };
    CHECK(holds(error({{0, {4}}, {1, {61}}}), "token id 61 is outside the vocabulary of 61"));
    CHECK(holds(error({{0, {4}}, {1, {5, -1}}}), "token id -1 is outside the vocabulary of 61"));
    CHECK(holds(error({{0, {std::numeric_limits<Token>::max()}}}), "outside the vocabulary"));
    CHECK(holds(error({{0, {4}}, {2, {5}}}), "sequence 2 does not exist"));
    CHECK(holds(error({{0, {4}}, {0, {5}}}), "sequence 0 stands twice"));
    CHECK(holds(error({{0, {4}}, {1, {}}}), "sequence 1 has no new tokens"));
    CHECK(holds(error({{0, {4}}, {1, {5, 6, 7, 8, 9, 10}}}), "sequence 1 would have 7 tokens; the capacity is 6"));
    CHECK(decoder.tokens(0) == std::vector<Token>{1, 2});
    CHECK(decoder.tokens(1) == std::vector<Token>{3});
    CHECK(exact(decoder.logits({{0, {4}}, {1, {60}}}), untouched.logits({{0, {4}}, {1, {60}}})));
  }
}

TEST_CASE("an empty batch is no work", "[decoder]") {
  const SmallCheckpoint files;
  Decoder decoder = decoder_of(files);
  CHECK(decoder.logits(std::vector<NewTokens>{}).shape(0) == 0);
  CHECK(decoder.last_logits({}).shape(0) == 0);
}

TEST_CASE("when a layer fails half way, every layer and the tokens are as before", "[decoder]") {
  const SmallCheckpoint files({.layers = 3});
  const std::vector<Token> start = random_tokens(4, 61, 4), other = random_tokens(2, 61, 5), next = random_tokens(3, 61, 6);
  for (const Stage& stage : stages_of_layers(Family::gqa)) {
    CAPTURE(stage.name);
    bool fails = false;
    const Limits limits{.sequences = 2, .capacity = 8};
    Decoder decoder = failing_decoder(files.open(), stage, limits, fails);
    Decoder untouched = make_decoder(files.open(), stage, limits);
    decoder.logits({{0, start}, {1, other}});
    untouched.logits({{0, start}, {1, other}});
    const std::size_t bytes = decoder.state_bytes();
    fails = true;
    CHECK_THROWS_AS(decoder.logits({{1, next}, {0, other}}), std::bad_alloc);
    CHECK_THROWS_AS(decoder.last_logits({{0, next}}), std::bad_alloc);
    CHECK(decoder.tokens(0) == start);
    CHECK(decoder.tokens(1) == other);
    CHECK(decoder.state_bytes() == bytes);
    fails = false;
    CHECK(exact(decoder.logits({{1, next}, {0, other}}), untouched.logits({{1, next}, {0, other}})));
  }
}

TEST_CASE("truncate takes the tail only, and refuses to lengthen", "[decoder]") {
  const SmallCheckpoint files;
  for (const Stage& stage : stages_of_layers(Family::gqa)) {
    CAPTURE(stage.name);
    Decoder decoder = make_decoder(files.open(), stage, {.sequences = 2, .capacity = 9});
    decoder.logits({{0, {1, 2, 3, 4}}, {1, {9}}});
    CHECK_THROWS_AS(decoder.truncate(0, 5), std::out_of_range);
    CHECK_THROWS_AS(decoder.truncate(2, 0), std::out_of_range);
    decoder.truncate(0, 4);
    CHECK(decoder.length(0) == 4);
    decoder.truncate(0, 2);
    CHECK(decoder.tokens(0) == std::vector<Token>{1, 2});
    CHECK(decoder.tokens(1) == std::vector<Token>{9});
    CHECK(decoder.remembered(0) <= 2);
    decoder.truncate(0, 0);
    CHECK(decoder.length(0) == 0);
  }
}
