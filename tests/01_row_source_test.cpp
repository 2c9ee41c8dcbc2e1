/// Where rows lie is nobody's affair: stages written for this test alone keep them in scattered pieces, or in 8 bits, and
/// run through the same attention. Masks with a window and sinks against the formula in double precision.
#include <cmath>
#include <deque>

#include "chapters/01_uncached_attention/attend.hpp"
#include "chapters/01_uncached_attention/attention_weights.hpp"
#include "chapters/01_uncached_attention/plain_attend.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/equality.hpp"
#include "tests/support/instruction_sets.hpp"
#include "tests/support/oracle.hpp"
#include "tests/support/random.hpp"

using namespace kv;
using namespace kv::test;

namespace {

/// Rows in pieces of a fixed number, each in memory of its own.
class ScatteredRows : public RowSource {
 public:
  ScatteredRows(const HeadSizes& sizes, index_t piece_rows) : sizes_(sizes), piece_rows_(piece_rows) {}

  void append(const Tensor<3>& keys, const Tensor<3>& values, index_t first, index_t count) {
    for (index_t n = first; n < first + count; ++n, ++length_) {
      if (length_ % piece_rows_ == 0) {
        const float poison = std::nanf("");
        pieces_.push_back({Tensor<3>({piece_rows_, sizes_.key_value_heads, sizes_.key_width}, poison),
                           Tensor<3>({piece_rows_, sizes_.key_value_heads, sizes_.value_width}, poison)});
      }
      put_rows(pieces_.back().keys, length_ % piece_rows_, rows(keys, n, 1));
      put_rows(pieces_.back().values, length_ % piece_rows_, rows(values, n, 1));
    }
  }

  index_t heads() const override { return sizes_.key_value_heads; }
  index_t value_width() const override { return sizes_.value_width; }
  index_t count(index_t) const override { return length_; }
  const RowBlock& block(index_t g, index_t first, index_t count) const override {
    thread_local RowBlock block;
    block.pieces.clear();
    for (index_t s = first; s < first + count;) {
      const Piece& piece = pieces_[s / piece_rows_];
      const index_t offset = s % piece_rows_, together = std::min(piece_rows_ - offset, first + count - s);
      block.pieces.push_back({slice(head_rows(piece.keys, g, piece_rows_), offset, together),
                              slice(head_rows(piece.values, g, piece_rows_), offset, together)});
      s += together;
    }
    return block;
  }

 private:
  struct Piece {
    Tensor<3> keys, values;
  };
  HeadSizes sizes_;
  index_t piece_rows_, length_ = 0;
  std::deque<Piece> pieces_;
};

/// Rows as 8-bit numbers with one scale each, widened when a block is asked for.
class RoundedRows : public RowSource {
 public:
  RoundedRows(const HeadSizes& sizes, index_t) : sizes_(sizes) {}

  void append(const Tensor<3>& keys, const Tensor<3>& values, index_t first, index_t count) {
    for (index_t n = first; n < first + count; ++n, ++length_)
      for (index_t g = 0; g < heads(); ++g) {
        keys_.push_back(rounded(row(keys, n, g)));
        values_.push_back(rounded(row(values, n, g)));
      }
  }

  index_t heads() const override { return sizes_.key_value_heads; }
  index_t value_width() const override { return sizes_.value_width; }
  index_t count(index_t) const override { return length_; }
  const RowBlock& block(index_t g, index_t first, index_t count) const override {
    thread_local RowBlock block;
    thread_local std::vector<float> keys, values;
    keys.clear();
    values.clear();
    for (index_t s = first; s < first + count; ++s) {
      widen(keys_[s * heads() + g], keys);
      widen(values_[s * heads() + g], values);
    }
    block.pieces.assign(1, {{keys.data(), sizes_.key_width, count, sizes_.key_width},
                            {values.data(), sizes_.value_width, count, sizes_.value_width}});
    return block;
  }

 private:
  struct Row {
    std::vector<std::int8_t> values;
    float scale;
  };
  static Row rounded(std::span<const float> x) {
    float largest = 0.0f;
    for (const float value : x) largest = std::max(largest, std::abs(value));
    Row row{{}, largest / 127.0f};
    for (const float value : x) row.values.push_back(static_cast<std::int8_t>(std::nearbyint(value / row.scale)));
    return row;
  }
  static void widen(const Row& row, std::vector<float>& out) {
    for (const std::int8_t value : row.values) out.push_back(static_cast<float>(value) * row.scale);
  }
  HeadSizes sizes_;
  index_t length_ = 0;
  std::vector<Row> keys_, values_;
};

/// A stage on heads whose rows lie in any source that can append.
template <class Rows>
class ToyAttention : public Attention {
 public:
  ToyAttention(std::shared_ptr<const HeadProjection> projection, index_t piece_rows)
      : projection_(std::move(projection)), piece_rows_(piece_rows), rows_(projection_->sizes(), piece_rows) {}

  Tensor<2> forward(const Tensor<2>& x, const Batch& batch) override {
    const Heads heads = projection_->project(x, positions(batch, *this));
    rows_.append(heads.keys, heads.values, 0, x.shape(0));
    const float scale = 1.0f / std::sqrt(static_cast<float>(projection_->sizes().key_width));
    const CausalMask mask{.position = batch.front().position};
    length_ += x.shape(0);
    return projection_->output(attend(heads.queries, rows_, mask, scale));
  }
  index_t length(index_t) const override { return length_; }
  index_t truncate(index_t, index_t) override {
    rows_ = Rows(projection_->sizes(), piece_rows_);
    return length_ = 0;
  }
  StateBytes state_bytes() const override { return {}; }

 private:
  std::shared_ptr<const HeadProjection> projection_;
  index_t piece_rows_;
  Rows rows_;
  index_t length_ = 0;
};

template <class Rows>
Stage toy_stage(index_t piece_rows) {
  Stage stage = find_stage("preallocated");
  stage.make = MakeLayers([=](const Checkpoint& checkpoint, const Limits&, const StageOptions&) -> MakeLayer {
    return [=](index_t layer) -> LayerHalves {
      return {std::make_unique<ToyAttention<Rows>>(head_projection(checkpoint, layer), piece_rows)};
    };
  });
  return stage;
}

/// softmax(q . k / sqrt(D)) v over what the mask shows, in double precision; sinks meet the other query.
Doubles<3> masked_attention(const Tensor<3>& queries, const Tensor<3>& sink_queries, const Tensor<3>& keys,
                            const Tensor<3>& values, index_t position, index_t window, index_t sinks) {
  const index_t T = queries.shape(0), H = queries.shape(1), D = queries.shape(2), G = keys.shape(1), W = values.shape(2);
  Doubles<3> output(Shape<3>{T, H, W}, 0.0);
  for (index_t t = 0; t < T; ++t)
    for (index_t h = 0; h < H; ++h) {
      const index_t g = h * G / H, self = position + t;
      std::vector<double> weights(self + 1, 0.0);
      double sum = 0.0;
      for (index_t s = 0; s <= self; ++s) {
        const bool near = self - s < window || self + 1 <= window + sinks, is_sink = s < sinks;
        if (!near && !is_sink) continue;
        double score = 0.0;
        const Tensor<3>& asks = near ? queries : sink_queries;
        for (index_t d = 0; d < D; ++d) score += static_cast<double>(asks(t, h, d)) * keys(s, g, d);
        sum += weights[s] = std::exp(score / std::sqrt(static_cast<double>(D)));
      }
      for (index_t s = 0; s <= self; ++s)
        for (index_t w = 0; w < W; ++w)
          if (weights[s] > 0.0) output(t, h, w) += weights[s] / sum * values(s, g, w);
    }
  return output;
}

}  // namespace

TEST_CASE("the plain formula and the fast one are the same but for rounding", "[rows]") {
  const auto [T, S, G] = GENERATE(table<index_t, index_t, index_t>({{1, 1, 1}, {5, 5, 2}, {1, 140, 3}, {40, 300, 6}}));
  const Tensor<3> queries = random_tensor<3>({T, 6, 18}, 1), keys = random_tensor<3>({S, G, 18}, 2);
  const Tensor<3> values = random_tensor<3>({S, G, 10}, 3);
  CAPTURE(T, S, G);
  const Tensor<3> plain = plain_attend(queries, keys, values, S);
  CHECK(close(attend(queries, keys, values, S), plain, 1e-5, "blocks have other orders of sums"));
  CHECK(close(plain, oracle::attention(oracle::widen(queries), oracle::widen(keys), oracle::widen(values), S), 1e-5,
              "f32 against double precision"));
}

TEST_CASE("rows in scattered pieces: equal bits to preallocated, for a whole model", "[rows]") {
  const Checkpoint checkpoint(std::filesystem::path(KV_DATA) / GENERATE("tiny-gqa", "tiny-mla"));
  const std::vector<Token> tokens = random_tokens(150, 500, 4);
  const Tensor<2> expected = whole_logits(checkpoint, find_stage("preallocated"), tokens);
  for (const index_t piece_rows : {5, 64, 128}) {
    CAPTURE(piece_rows);
    const Stage stage = toy_stage<ScatteredRows>(piece_rows);
    Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 150});
    CHECK(exact(logits_in_chunks(decoder, 0, tokens, {100, 1, 1, 40, 8}), expected));
  }
}

TEST_CASE("rows of 8 bits, widened block by block: near, and the same bits in any chunking", "[rows]") {
  const Checkpoint checkpoint(std::filesystem::path(KV_DATA) / "tiny-gqa");
  const std::vector<Token> tokens = random_tokens(150, 500, 5);
  const Stage stage = toy_stage<RoundedRows>(0);
  const Tensor<2> whole = whole_logits(checkpoint, stage, tokens);
  CHECK(close(whole, whole_logits(checkpoint, find_stage("preallocated"), tokens), 0.1, "rows have 8 bits"));
  Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 150});
  CHECK(exact(logits_in_chunks(decoder, 0, tokens, {7, 120, 1, 1, 21}), whole));
}

TEST_CASE("a window and sinks are what the formula says", "[rows]") {
  const index_t S = 300, T = GENERATE(1, 40, 300), G = GENERATE(1, 3);
  const Tensor<3> queries = random_tensor<3>({T, 6, 18}, 6), at_sinks = random_tensor<3>({T, 6, 18}, 7);
  const Tensor<3> keys = random_tensor<3>({S, G, 18}, 8), values = random_tensor<3>({S, G, 10}, 9);
  for (const index_t window : {1, 2, 127, 128, 129, 299, 300, 1000})
    for (const index_t sinks : {0, 1, 4, 130}) {
      CAPTURE(T, G, window, sinks);
      const CausalMask mask{.position = S - T, .window = window, .sinks = sinks};
      const float scale = 1.0f / std::sqrt(18.0f);
      CHECK(close(attend(queries, at_sinks, ContiguousRows(keys, values, S), mask, scale),
                  masked_attention(queries, at_sinks, keys, values, S - T, window, sinks), 2e-5,
                  "f32 against double precision"));
    }
}

TEST_CASE("with a window and sinks a token's bits do not depend on its chunk, and what it does not see is not read", "[rows]") {
  const index_t S = 300, G = 2, window = GENERATE(1, 100, 128, 129), sinks = GENERATE(0, 3);
  const Tensor<3> queries = random_tensor<3>({S, 6, 18}, 16), at_sinks = random_tensor<3>({S, 6, 18}, 17);
  const Tensor<3> keys = random_tensor<3>({S, G, 18}, 18), values = random_tensor<3>({S, G, 10}, 19);
  const auto run = [&](const Tensor<3>& k, const Tensor<3>& v, index_t first, index_t count) {
    const CausalMask mask{.position = first, .window = window, .sinks = sinks};
    return attend(rows(queries, first, count), rows(at_sinks, first, count), ContiguousRows(k, v, first + count), mask, 0.2f);
  };
  const Tensor<3> whole = run(keys, values, 0, S);
  for (const index_t first : {0, 1, 127, 128, 200, 299})
    for (const index_t count : {1, 30}) {
      if (first + count > S) continue;
      Tensor<3> left_keys = keys, left_values = values;
      const index_t seen_from = first + 1 > window ? first + 1 - window : 0;
      for (index_t s = sinks; s < seen_from; ++s)
        for (index_t g = 0; g < G; ++g) {
          std::ranges::fill(row(left_keys, s, g), std::nanf(""));
          std::ranges::fill(row(left_values, s, g), std::nanf(""));
        }
      CAPTURE(window, sinks, first, count);
      CHECK(exact(run(left_keys, left_values, first, count), rows(whole, first, count)));
    }
}

TEST_CASE("attention weights add up to one, and to what attend gives", "[rows]") {
  const index_t S = 150, T = 12, G = 2, H = 4, W = 10;
  const Tensor<3> queries = random_tensor<3>({T, H, 18}, 26), keys = random_tensor<3>({S, G, 18}, 28);
  const Tensor<3> values = random_tensor<3>({S, G, W}, 29);
  const CausalMask mask = GENERATE(CausalMask{.position = 138}, CausalMask{.position = 138, .window = 9, .sinks = 2});
  const ContiguousRows stored(keys, values, S);
  const Tensor<3> weights = attention_weights(queries, stored, mask, 0.2f);
  Tensor<3> mixed = zeros<3>({T, H, W});
  for (index_t t = 0; t < T; ++t)
    for (index_t h = 0; h < H; ++h) {
      double sum = 0.0;
      for (index_t s = 0; s < S; ++s) {
        sum += weights(t, h, s);
        for (index_t w = 0; w < W; ++w) mixed(t, h, w) += weights(t, h, s) * values(s, h * G / H, w);
        const auto [first, end, sinks] = mask(t);
        if (s >= end || (s < first && s >= sinks)) CHECK(weights(t, h, s) == 0.0f);
      }
      CHECK(sum == Approx(1.0).epsilon(1e-5));
    }
  CHECK(close(attend(queries, stored, mask, 0.2f), mixed, 1e-5, "a softmax in one piece"));
}
