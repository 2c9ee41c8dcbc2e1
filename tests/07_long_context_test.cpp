/// Chapter 7, forgetting by age: a ring for windows that the model was made with loses nothing; sinks and a window on a
/// model that was made without lose what is between, by a rule that knows of no chunk.
#include <cmath>

#include "chapters/01_uncached_attention/uncached_attention.hpp"
#include "chapters/02_concat_cache/concat_attention.hpp"
#include "chapters/03_preallocated_cache/preallocated_attention.hpp"
#include "chapters/07_long_context/ring_attention.hpp"
#include "chapters/07_long_context/streaming_attention.hpp"
#include "chapters/07_long_context/streaming_latents.hpp"
#include "common/files/error.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/feed.hpp"
#include "tests/support/instruction_sets.hpp"
#include "tests/support/ladder.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// The heads of another projection in a layer with a window.
class Windowed : public HeadProjection {
 public:
  Windowed(std::shared_ptr<const HeadProjection> heads, index_t window) : heads_(std::move(heads)), window_(window) {}
  Heads project(const Tensor<2>& x, std::span<const index_t> at) const override { return heads_->project(x, at); }
  Tensor<3> queries(const Tensor<2>& x, std::span<const index_t> at) const override { return heads_->queries(x, at); }
  Tensor<2> output(const Tensor<3>& mixed) const override { return heads_->output(mixed); }
  HeadSizes sizes() const override {
    HeadSizes sizes = heads_->sizes();
    sizes.window = window_;
    return sizes;
  }

 private:
  std::shared_ptr<const HeadProjection> heads_;
  index_t window_;
};

/// A stage on heads whose layers have these windows, in turn.
template <class StageAttention>
Stage windowed_stage(const std::vector<index_t>& windows) {
  Stage stage = find_stage("preallocated");
  stage.make = MakeLayers([=](const Checkpoint& checkpoint, const Limits& limits, const StageOptions&) -> MakeLayer {
    return [=](index_t layer) -> LayerHalves {
      const auto heads = std::make_shared<Windowed>(head_projection(checkpoint, layer), windows[layer % windows.size()]);
      return {std::make_unique<StageAttention>(heads, limits)};
    };
  });
  return stage;
}

Stage streaming(index_t budget, index_t sinks) {
  Stage stage = find_stage("streaming");
  stage.options.set("budget", std::to_string(budget));
  stage.options.set("sinks", std::to_string(sinks));
  return stage;
}

Checkpoint shipped(const char* name) { return Checkpoint(std::filesystem::path(KV_DATA) / name); }

RandomProjection heads_with_window(index_t window) {
  return {HeadSizes{6, 2, 8, 6, window}, 28, true, 600};
}

/// StreamingLLM as its paper says it, in double precision: for each token the rows that it sees are counted from 0, keys and
/// the query are turned to those numbers, and that is all the attention there is.
Doubles<2> streaming_layer(const Tensor<2>& x, const oracle::AttentionWeights& weights, index_t budget, index_t sinks) {
  const auto [H, G, D, W, window] = weights.sizes;
  const index_t T = x.shape(0);
  const Doubles<2> wide = oracle::widen(x), q = oracle::linear(wide, weights.query), k = oracle::linear(wide, weights.key),
                   v = oracle::linear(wide, weights.value);
  const auto head = [&](const Doubles<2>& rows, index_t t, index_t h, index_t width, const std::vector<double>& norm,
                        index_t position) {
    std::vector<double> part(width);
    for (index_t d = 0; d < width; ++d) part[d] = rows(t, h * width + d);
    if (!norm.empty()) part = oracle::rms_norm(part, norm, weights.norm_epsilon);
    return oracle::rotate(part, weights.frequencies, static_cast<double>(position), oracle::Pairs::half_split);
  };
  Doubles<2> mixed(Shape<2>{T, H * W}, 0.0);
  for (index_t t = 0; t < T; ++t) {
    std::vector<index_t> seen;
    for (index_t s = 0; s <= t; ++s)
      if (t + 1 <= budget || s < sinks || t - s < budget - sinks) seen.push_back(s);
    for (index_t h = 0; h < H; ++h) {
      const index_t g = h * G / H;
      const std::vector<double> query = head(q, t, h, D, weights.query_norm, seen.size() - 1);
      std::vector<double> scores;
      for (index_t i = 0; i < seen.size(); ++i) {
        const std::vector<double> key = head(k, seen[i], g, D, weights.key_norm, i);
        double score = 0.0;
        for (index_t d = 0; d < D; ++d) score += query[d] * key[d];
        scores.push_back(std::exp(score / std::sqrt(static_cast<double>(D))));
      }
      double sum = 0.0;
      for (const double score : scores) sum += score;
      for (index_t i = 0; i < seen.size(); ++i)
        for (index_t w = 0; w < W; ++w) mixed(t, h * W + w) += scores[i] / sum * v(seen[i], g * W + w);
    }
  }
  return oracle::linear(mixed, weights.output);
}

}  // namespace

TEST_CASE("ring equals uncached bit for bit, windows and chunks of any size", "[ring]") {
  const Checkpoint checkpoint = shipped("tiny-gqa");
  const std::vector<Token> tokens = random_tokens(330, 1000, 1);
  const std::vector<index_t> windows = GENERATE(std::vector<index_t>{1}, std::vector<index_t>{2}, std::vector<index_t>{127},
                                                std::vector<index_t>{128}, std::vector<index_t>{129},
                                                std::vector<index_t>{1000}, std::vector<index_t>{20, no_window, 150});
  CAPTURE(windows);
  const Tensor<2> expected = whole_logits(checkpoint, windowed_stage<UncachedAttention>(windows), tokens);
  for (const auto& chunks : {std::vector<index_t>{330}, std::vector<index_t>{1, 300, 1, 1, 27}, random_chunks(330, 5)}) {
    CAPTURE(chunks);
    for (const Stage& stage : {windowed_stage<RingAttention>(windows), windowed_stage<PreallocatedAttention>(windows),
                               windowed_stage<ConcatAttention>(windows)}) {
      Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 330});
      CHECK(exact(logits_in_chunks(decoder, 0, tokens, chunks), expected));
    }
  }
}

TEST_CASE("ring: a batch row is its solo run, whatever the threads and instructions", "[ring]") {
  const Checkpoint checkpoint = shipped("tiny-gqa");
  const Stage stage = windowed_stage<RingAttention>({9, no_window});
  const std::vector<Token> a = random_tokens(200, 1000, 2), b = random_tokens(31, 1000, 3);
  const Tensor<2> expected_a = whole_logits(checkpoint, stage, a), expected_b = whole_logits(checkpoint, stage, b);
  for (const InstructionSet set : available_instruction_sets())
    for (const index_t threads : {index_t{1}, index_t{2}}) {
      const Machine machine(set, threads);
      Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 2, .capacity = 200});
      const Tensor<2> first = decoder.logits({{1, part(b, 0, 30)}, {0, part(a, 0, 199)}});
      const Tensor<2> second = decoder.logits({{0, part(a, 199, 1)}, {1, part(b, 30, 1)}});
      CAPTURE(name(set), threads);
      CHECK(exact(rows(first, 0, 30), rows(expected_b, 0, 30)));
      CHECK(exact(rows(first, 30, 199), rows(expected_a, 0, 199)));
      CHECK(exact(rows(second, 0, 1), rows(expected_a, 199, 1)));
      CHECK(exact(rows(second, 1, 1), rows(expected_b, 30, 1)));
    }
}

TEST_CASE("a ring holds its window and a piece more, however long the text", "[ring]") {
  const RandomProjection heads = heads_with_window(20);
  const auto [H, G, D, W, window] = heads.weights.sizes;
  RingAttention attention(heads.projection, {.sequences = 1, .capacity = 1000});
  const std::size_t row_bytes = G * (D + W) * 4, expected = (window - 1 + ring_piece) * row_bytes;
  CHECK(attention.state_bytes() == StateBytes{expected, 0});
  feed(attention, random_tensor<2>({5, heads.width}, 1), {{0, 0, 5}});
  CHECK(attention.state_bytes() == StateBytes{expected, 5 * row_bytes});
  feed(attention, random_tensor<2>({900, heads.width}, 2), {{0, 0, 900}});
  CHECK(attention.state_bytes() == StateBytes{expected, expected});
  CHECK(attention.length(0) == 905);
  CHECK_THROWS_AS(feed(attention, random_tensor<2>({96, heads.width}, 3), {{0, 0, 96}}), Error);
  RingAttention whole(grouped_heads().projection, {.sequences = 1, .capacity = 50});  // no window: all rows and no more
  CHECK(whole.state_bytes().allocated == 50 * row_bytes);
}

TEST_CASE("a ring that is cut among its sinks keeps them, and behind them what has not been overwritten", "[ring]") {
  const index_t sinks = 4, window = 8, slots = window - 1 + ring_piece;
  for (const index_t length : {sinks + slots, sinks + slots + 1, index_t{400}})
    for (const index_t cut : {index_t{0}, index_t{1}, sinks, sinks + 1, sinks + window - 1}) {
      RingCache cache({.heads = 1, .key_width = 2, .value_offset = 2, .value_width = 2}, window, sinks, 500);
      const Tensor<3> rows = random_tensor<3>({length, 1, 2}, 5);
      cache.append(rows, rows, 0, length);
      CAPTURE(length, cut);
      CHECK(cache.truncate(cut) == (cut <= sinks || length <= sinks + slots ? cut : 0));
    }
}

TEST_CASE("a ring that is cut keeps its rows while the window before the cut is whole, or none", "[ring]") {
  const index_t window = 20, length = 700;
  const RandomProjection heads = heads_with_window(window);
  const Tensor<2> x = random_tensor<2>({length, heads.width}, 4);
  UncachedAttention reference(heads.projection, Limits{});
  const Tensor<2> expected = feed(reference, x, {{0, 0, length}});
  for (const index_t back : {1, 100, 128, 129, 300}) {
    RingAttention attention(heads.projection, {.sequences = 1, .capacity = length});
    feed(attention, x, {{0, 0, length}});
    const index_t kept = attention.truncate(0, length - back);
    CAPTURE(back);
    CHECK(kept == (back <= ring_piece ? length - back : 0));
    CHECK(attention.length(0) == kept);
    CHECK(exact(feed(attention, rows(x, kept, length - kept), {{0, 0, length - kept}}), rows(expected, kept, length - kept)));
  }
  RingAttention attention(heads.projection, {.sequences = 1, .capacity = length});
  feed(attention, rows(x, 0, 100), {{0, 0, 100}});
  CHECK(attention.truncate(0, 3) == 3);  // nothing has been overwritten yet
  CHECK_THROWS_AS(attention.truncate(0, 4), std::out_of_range);
  CHECK(exact(feed(attention, rows(x, 3, 97), {{0, 0, 97}}), rows(expected, 3, 97)));
}

TEST_CASE("a decoder whose rings were cut too far feeds again, and the answer is right", "[ring]") {
  const Checkpoint checkpoint = shipped("tiny-gqa");
  const std::vector<Token> tokens = random_tokens(400, 1000, 6);
  const std::vector<index_t> windows{16, no_window};
  const Tensor<2> expected = whole_logits(checkpoint, windowed_stage<UncachedAttention>(windows), tokens);
  Decoder decoder = make_decoder(checkpoint, windowed_stage<RingAttention>(windows), {.sequences = 1, .capacity = 400});
  decoder.logits(0, tokens);
  decoder.truncate(0, 399);
  CHECK(decoder.remembered(0) == 399);
  decoder.truncate(0, 200);
  CHECK(decoder.length(0) == 200);
  CHECK(decoder.remembered(0) == 0);
  CHECK(exact(decoder.logits(0, part(tokens, 200, 200)), rows(expected, 200, 200)));
}

TEST_CASE("streaming is what its paper says, in double precision", "[streaming]") {
  const auto [budget, sinks] = GENERATE(table<index_t, index_t>({{12, 4}, {12, 0}, {2, 1}, {150, 3}, {200, 4}}));
  const RandomProjection heads = grouped_heads();
  const Tensor<2> x = random_tensor<2>({180, heads.width}, 7);
  StreamingAttention attention(heads.projection, {.sequences = 1, .capacity = 180}, {.sinks = sinks, .budget = budget});
  CAPTURE(budget, sinks);
  CHECK(close(feed(attention, x, {{0, 0, 180}}), streaming_layer(x, heads.weights, budget, sinks), 2e-5,
              "f32 against double precision"));
}

TEST_CASE("streaming with a budget for the whole text loses nothing", "[streaming]") {
  const auto [model, same] = GENERATE(table<const char*, const char*>({{"tiny-gqa", "preallocated"}, {"tiny-mla", "absorbed"}}));
  const Checkpoint checkpoint = shipped(model);
  const std::vector<Token> tokens = random_tokens(300, 1000, 8);
  const index_t budget = GENERATE(300, 1000);
  Decoder decoder = make_decoder(checkpoint, streaming(budget, 4), {.sequences = 1, .capacity = 300});
  CHECK(exact(logits_in_chunks(decoder, 0, tokens, {200, 1, 99}), whole_logits(checkpoint, find_stage(same), tokens)));
}

TEST_CASE("with a smaller budget a token's logits still do not depend on chunks, batch or threads", "[streaming]") {
  const Checkpoint checkpoint = shipped(GENERATE("tiny-gqa", "tiny-mla"));
  const Stage stage = streaming(GENERATE(40, 140), GENERATE(0, 5));
  const std::vector<Token> tokens = random_tokens(350, 1000, 9), other = random_tokens(90, 1000, 10);
  const Tensor<2> expected = whole_logits(checkpoint, stage, tokens), expected_other = whole_logits(checkpoint, stage, other);
  for (const index_t threads : {index_t{1}, index_t{2}}) {
    const Machine machine(instruction_set(), threads);
    Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 2, .capacity = 350});
    CHECK(exact(logits_in_chunks(decoder, 0, part(tokens, 0, 260), {1, 200, 1, 1, 57}), rows(expected, 0, 260)));
    const Tensor<2> together = decoder.logits({{1, other}, {0, part(tokens, 260, 90)}});
    CHECK(exact(rows(together, 0, 90), expected_other));
    CHECK(exact(rows(together, 90, 90), rows(expected, 260, 90)));
  }
}

TEST_CASE("rows that were given up are never read again", "[streaming]") {
  const index_t sinks = 3, budget = 13, window = budget - sinks;
  const RandomProjection heads = GENERATE(grouped_heads(), heads_with_window(10));
  const bool is_ring = heads.weights.sizes.window != no_window;
  const Tensor<2> clean = random_tensor<2>({300, heads.width}, 11);
  Tensor<2> poisoned = clean;
  const index_t first = is_ring ? 0 : sinks;
  for (index_t s = first; s < 150; ++s) std::ranges::fill(row(poisoned, s), std::nanf(""));
  const auto run = [&](const Tensor<2>& x) -> Tensor<2> {
    const Limits limits{.sequences = 1, .capacity = 300};
    if (is_ring) {
      RingAttention attention(heads.projection, limits);
      return rows(feed(attention, x, {{0, 0, 300}}), 150 + window - 1, 300 - 150 - window + 1);
    }
    StreamingAttention attention(heads.projection, limits, {.sinks = sinks, .budget = budget});
    return rows(feed(attention, x, {{0, 0, 300}}), 150 + window - 1, 300 - 150 - window + 1);
  };
  CHECK(exact(run(poisoned), run(clean)));
}

TEST_CASE("streaming goes on past the model's context, in the same bytes", "[streaming]") {
  const Checkpoint checkpoint = shipped(GENERATE("tiny-gqa", "tiny-mla"));
  const index_t context = model_sizes(checkpoint.config()).context, total = context + 300;
  Decoder decoder = make_decoder(checkpoint, streaming(64, 4), {.sequences = 1, .capacity = total});
  const StateBytes empty = decoder.state_bytes();
  const Tensor<2> logits = decoder.last_logits({{0, random_tokens(total, 1000, 12)}});
  CHECK(std::isfinite(logits(0, 0)));
  CHECK(decoder.state_bytes().allocated == empty.allocated);
  CHECK(decoder.state_bytes().used == empty.allocated);
  CHECK(decoder.length(0) == total);
}

TEST_CASE("streaming names a budget that makes no sense", "[streaming]") {
  const Checkpoint checkpoint = shipped("tiny-gqa");
  const auto error = [&](index_t budget, index_t sinks) {
    return error_of([&] { make_decoder(checkpoint, streaming(budget, sinks), {.sequences = 1, .capacity = 8}); });
  };
  CHECK(holds(error(4, 4), "--budget 4 leaves no row for a window beside 4 sinks"));
  CHECK(holds(error(3, 4), "--budget 3"));
  CHECK(holds(error(1 << 20, 4), "more than the model's context"));
  Stage stage = find_stage("streaming");
  CHECK(holds(error_of([&] { stage.options.set("budget", "0"); }), "--budget 0: needs a whole number from 1 to"));
  for (const char* wrong : {"", "x", "1.5", "-1", "nan", "1e99", "12 "})
    CHECK_THROWS_AS(stage.options.set("budget", wrong), UsageError);
  CHECK_THROWS_AS(find_stage("preallocated").options.size("budget"), std::logic_error);
}
