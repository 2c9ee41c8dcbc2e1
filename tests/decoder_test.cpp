/// The decoder around the seams: what it refuses, and that a refusal or a failure changes nothing.
#include "common/model/decoder.hpp"

#include "common/files/error.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// Passes everything on to another layer; what differs is overridden.
class WrappedAttention : public Attention {
 public:
  explicit WrappedAttention(std::unique_ptr<Attention> attention) : attention_(std::move(attention)) {}
  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override { return attention_->forward(x, batch); }
  void require_room(const Batch& batch) const override { attention_->require_room(batch); }
  void prompt_ends(index_t sequence) override { attention_->prompt_ends(sequence); }
  index_t length(index_t sequence) const override { return attention_->length(sequence); }
  index_t truncate(index_t sequence, index_t length) override { return attention_->truncate(sequence, length); }
  index_t share(index_t from, index_t to, index_t length) override { return attention_->share(from, to, length); }
  StateBytes state_bytes() const override { return attention_->state_bytes(); }

 protected:
  std::unique_ptr<Attention> attention_;
};

/// Fails on demand, after the attention it wraps has done its work.
class FailingAttention : public WrappedAttention {
 public:
  FailingAttention(std::unique_ptr<Attention> attention, const bool& fails)
      : WrappedAttention(std::move(attention)), fails_(&fails) {}
  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override {
    Tensor<2> y = attention_->forward(x, batch);
    if (*fails_) throw std::bad_alloc();
    return y;
  }

 private:
  const bool* fails_;
};

/// Keeps a multiple of `group` tokens when it is cut, as a layer does that stores its rows in groups.
class GroupingAttention : public WrappedAttention {
 public:
  GroupingAttention(std::unique_ptr<Attention> attention, index_t group)
      : WrappedAttention(std::move(attention)), group_(group) {}
  index_t truncate(index_t sequence, index_t length) override {
    return attention_->truncate(sequence, length / group_ * group_);
  }
  index_t share(index_t from, index_t to, index_t length) override {
    return attention_->share(from, to, length / group_ * group_);
  }

 private:
  index_t group_;
};

/// Says which of its calls came, and when.
class ListeningAttention : public WrappedAttention {
 public:
  ListeningAttention(std::unique_ptr<Attention> attention, std::vector<std::string>& heard)
      : WrappedAttention(std::move(attention)), heard_(&heard) {}
  void require_room(const Batch& batch) const override {
    heard_->push_back("room");
    attention_->require_room(batch);
  }
  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override {
    std::string tokens;
    for (const Token token : batch.front().tokens) tokens += " " + std::to_string(token);
    heard_->push_back("forward at " + std::to_string(batch.front().position) + ":" + tokens);
    return attention_->forward(x, batch);
  }
  void prompt_ends(index_t sequence) override { heard_->push_back("prompt of " + std::to_string(sequence) + " ends"); }

 private:
  std::vector<std::string>* heard_;
};

using Wrap = std::function<std::unique_ptr<Attention>(index_t layer, std::unique_ptr<Attention> attention)>;

/// A stage with its layers' attention wrapped.
Stage wrapped(Stage stage, const Wrap& wrap) {
  stage.make = MakeLayers([make = std::get<MakeLayers>(stage.make), wrap](const Checkpoint& checkpoint, const Limits& limits,
                                                                         const StageOptions& options) -> MakeLayer {
    return [make_layer = make(checkpoint, limits, options), wrap](index_t layer) {
      LayerHalves halves = make_layer(layer);
      halves.attention = wrap(layer, std::move(halves.attention));
      return halves;
    };
  });
  return stage;
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
    return decoder.state_bytes().allocated;
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

TEST_CASE("when a layer fails, whichever it is, every layer and the tokens are as before", "[decoder]") {
  const SmallCheckpoint files({.layers = 3});
  const index_t failing = GENERATE(0, 1, 2);
  CAPTURE(failing);
  const std::vector<Token> start = random_tokens(4, 61, 4), other = random_tokens(2, 61, 5), next = random_tokens(3, 61, 6);
  for (const Stage& stage : stages_of_layers(Family::gqa)) {
    if (!std::holds_alternative<MakeLayers>(stage.make)) continue;  // ranks: what fails there fails for good
    CAPTURE(stage.name);
    bool fails = false;
    const Limits limits{.sequences = 2, .capacity = 8};
    const Stage breaks = wrapped(stage, [&](index_t layer, std::unique_ptr<Attention> attention) {
      if (layer == failing) attention = std::make_unique<FailingAttention>(std::move(attention), fails);
      return attention;
    });
    Decoder decoder = make_decoder(files.open(), breaks, limits);
    Decoder untouched = make_decoder(files.open(), stage, limits);
    decoder.logits({{0, start}, {1, other}});
    untouched.logits({{0, start}, {1, other}});
    const std::size_t bytes = decoder.state_bytes().allocated;
    fails = true;
    CHECK_THROWS_AS(decoder.logits({{1, next}, {0, other}}), std::bad_alloc);
    CHECK_THROWS_AS(decoder.last_logits({{0, next}}), std::bad_alloc);
    CHECK(decoder.tokens(0) == start);
    CHECK(decoder.tokens(1) == other);
    CHECK(decoder.state_bytes().allocated <= bytes);  // a layer that grows may have given all back, to be fed again
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

TEST_CASE("what one layer must be fed again, all layers are fed again", "[decoder]") {
  const SmallCheckpoint files({.layers = 3});
  const std::vector<Token> tokens = random_tokens(14, 61, 7);
  const Tensor<2> expected = whole_logits(files.open(), find_stage("uncached"), tokens);
  // Groups of 3 in the first layer and of 4 in the last: of 11 tokens 9 are kept, of these 8, of these 6, 4, 3, and none.
  const Stage stage = wrapped(find_stage("preallocated"), [](index_t layer, std::unique_ptr<Attention> attention) {
    if (layer == 0) attention = std::make_unique<GroupingAttention>(std::move(attention), 3);
    if (layer == 2) attention = std::make_unique<GroupingAttention>(std::move(attention), 4);
    return attention;
  });
  Decoder decoder = make_decoder(files.open(), stage, {.sequences = 2, .capacity = 14});
  decoder.logits(0, part(tokens, 0, 13));
  decoder.truncate(0, 12);
  CHECK(decoder.remembered(0) == 12);  // a multiple of both
  CHECK(exact(decoder.logits(0, part(tokens, 12, 2)), rows(expected, 12, 2)));
  decoder.truncate(0, 11);
  CHECK(decoder.length(0) == 11);
  CHECK(decoder.remembered(0) == 0);
  CHECK(exact(decoder.logits(0, part(tokens, 11, 3)), rows(expected, 11, 3)));
  decoder.share(0, 1, 13);
  CHECK(decoder.tokens(1) == part(tokens, 0, 13));
  CHECK(decoder.remembered(1) == 12);
  CHECK(exact(decoder.logits(1, part(tokens, 13, 1)), rows(expected, 13, 1)));
}

TEST_CASE("a sequence that begins as another one goes on as if it had been fed", "[decoder]") {
  const SmallCheckpoint files({.layers = 2});
  const std::vector<Token> tokens = random_tokens(9, 61, 8);
  for (const Stage& stage : stages_of_layers(Family::gqa)) {
    CAPTURE(stage.name);
    const Tensor<2> expected = whole_logits(files.open(), stage, tokens);
    Decoder decoder = make_decoder(files.open(), stage, {.sequences = 2, .capacity = 9});
    decoder.logits({{0, part(tokens, 0, 7)}, {1, {5, 6}}});
    decoder.share(0, 1, 6);
    CHECK(decoder.tokens(1) == part(tokens, 0, 6));
    const Tensor<2> found = decoder.logits({{1, part(tokens, 6, 3)}, {0, part(tokens, 7, 2)}});
    CHECK(exact(rows(found, 0, 3), rows(expected, 6, 3)));
    CHECK(exact(rows(found, 3, 2), rows(expected, 7, 2)));
    CHECK_THROWS_AS(decoder.share(0, 1, 10), std::out_of_range);
  }
}

TEST_CASE("all layers are asked for room before the first runs, hear the tokens, and hear where a prompt ends", "[decoder]") {
  const SmallCheckpoint files({.layers = 2});
  std::vector<std::string> heard;
  const Stage stage = wrapped(find_stage("preallocated"), [&](index_t, std::unique_ptr<Attention> attention) {
    return std::make_unique<ListeningAttention>(std::move(attention), heard);
  });
  Decoder decoder = make_decoder(files.open(), stage, {.sequences = 1, .capacity = 9});
  decoder.logits(0, {3, 4});
  decoder.prompt_ends(0);
  decoder.logits(0, {5});
  CHECK(heard == std::vector<std::string>{"room", "room", "forward at 0: 3 4", "forward at 0: 3 4", "prompt of 0 ends",
                                          "prompt of 0 ends", "room", "room", "forward at 2: 5", "forward at 2: 5"});
}
