/// Chapter 8, rows in fewer bytes: what is stored of a row is what the format's definition says, in
/// double precision; a row depends on itself or on its group of 32 positions, so chunks, batches
/// and threads change no bit; bytes are what was promised.
#include <cmath>
#include <cstring>
#include <numeric>

#include "chapters/08_quantised_cache/int4_attention.hpp"
#include "chapters/08_quantised_cache/quantised_attention.hpp"
#include "chapters/08_quantised_cache/quantised_latents.hpp"
#include "chapters/08_quantised_cache/scaled_rows.hpp"
#include "chapters/08_quantised_cache/static_rows.hpp"
#include "chapters/models/grouped_config.hpp"
#include "chapters/models/latent_config.hpp"
#include "chapters/studies/memory_budget.hpp"
#include "common/files/error.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/decoders.hpp"
#include "tests/support/feed.hpp"
#include "tests/support/instruction_sets.hpp"
#include "tests/support/ladder.hpp"
#include "tests/support/random.hpp"
#include "tests/support/rounding_oracle.hpp"

using namespace kv;
using namespace kv::test;
using oracle::Numbers;

namespace {

constexpr CacheFormat all_formats[]{CacheFormat::bf16, CacheFormat::f16, CacheFormat::fp8,
                                    CacheFormat::int8, CacheFormat::int4};
constexpr const char* stage_names[]{"bf16", "f16", "fp8", "int8", "int4"};

const char* name(CacheFormat format) { return stage_names[static_cast<int>(format)]; }
Checkpoint shipped(const char* model) { return Checkpoint(std::filesystem::path(KV_DATA) / model); }
Json published(const char* model) {
  return Json::read(std::filesystem::path(KV_DATA) / "configs" / model / "config.json");
}

MakeAttention layers_in(CacheFormat format) {
  return [=](auto projection, const Limits& limits) -> std::unique_ptr<Attention> {
    if (format == CacheFormat::int4) return std::make_unique<Int4Attention>(projection, limits);
    return std::make_unique<QuantisedAttention>(projection, limits,
                                                head_formats(format, projection->sizes()));
  };
}

/// One row through a format, with NaN in the storage before; all of the row's bytes are written.
std::vector<float> through(const RowFormat& format, const std::vector<float>& row) {
  std::vector<std::byte> stored(format.bytes() + 2, std::byte{0xff}), over_zeros(format.bytes());
  format.store(row, stored.data());
  format.store(row, over_zeros.data());
  CHECK(std::ranges::equal(over_zeros, std::span(stored).first(format.bytes())));
  CHECK(
      (stored[format.bytes()] == std::byte{0xff} && stored[format.bytes() + 1] == std::byte{0xff}));
  std::vector<float> wide(format.width(), 7.0f);
  format.widen({stored.data(), format.bytes(), 1}, wide.data(), format.width());
  return wide;
}

std::vector<float> narrow(const Numbers& numbers) { return {numbers.begin(), numbers.end()}; }
Numbers widened(std::span<const float> row) { return {row.begin(), row.end()}; }

struct NamedRow {
  const char* name;
  std::vector<float> numbers;
};

/// Rows that somebody's format has stumbled over.
std::vector<NamedRow> rows_of(index_t width) {
  const auto random = [=](unsigned seed, float factor) {
    std::vector<float> row = random_floats(width, seed);
    for (float& x : row) x *= factor;
    return row;
  };
  const auto with = [](std::vector<float> row, float value) {
    row[row.size() / 2] = value;
    return row;
  };
  std::vector<NamedRow> rows{{"plain", random(1, 1.0f)},
                             {"large", random(2, 3e4f)},
                             {"beyond f16", random(3, 1e6f)},
                             {"as large as it gets", random(4, 2e38f)},
                             {"small", random(5, 1e-6f)},
                             {"below f16", random(6, 1e-9f)},
                             {"f32's subnormals", random(7, 1e-39f)},
                             {"a few units of f32's last place", random(8, 1e-44f)},
                             {"one outlier", with(random(9, 0.01f), 50.0f)},
                             {"far from zero", random(10, 0.01f)},
                             {"zeros", std::vector<float>(width, 0.0f)},
                             {"minus zeros", std::vector<float>(width, -0.0f)},
                             {"equal", std::vector<float>(width, 0.3f)},
                             {"equal and negative", std::vector<float>(width, -1234.5f)},
                             {"NaN", with(random(11, 1.0f), NAN)},
                             {"infinity", with(random(12, 1.0f), INFINITY)},
                             {"minus infinity", with(random(13, 1.0f), -INFINITY)},
                             {"halves, where int8's scale is 1", std::vector<float>(width, 127.0f)},
                             {"halves, where int4's step is 1", std::vector<float>(width, 15.0f)}};
  for (float& x : rows[9].numbers) x += 100.0f;
  for (index_t i = 0; i < width; ++i) {
    if (i % 32 != 0) rows[17].numbers[i] = static_cast<float>(i % 61) - 29.5f;
    if (i % 32 > 1) rows[18].numbers[i] = static_cast<float>(i % 14) + 0.5f;
    if (i % 32 == 1) rows[18].numbers[i] = 0.0f;
  }
  return rows;
}

/// The rows that token t sees, key and value of every head behind each other, as its format has
/// them by then.
Tensor<3> seen_by(CacheFormat format, const Tensor<3>& exact, index_t t, bool is_key) {
  Tensor<3> seen = exact;
  const index_t width = exact.shape(2), end = format == CacheFormat::int4 ? t / 32 * 32 : t + 1;
  for (index_t g = 0; g < exact.shape(1); ++g)
    for (index_t s = 0; s < end; ++s) {
      if (format != CacheFormat::int4 || !is_key) {
        std::ranges::copy(narrow(oracle::rounded(format, widened(row(exact, s, g)), width)),
                          row(seen, s, g).begin());
      } else if (s % 32 == 0) {
        for (index_t d = 0; d < width; ++d) {
          Numbers channel;
          for (index_t i = 0; i < 32; ++i) channel.push_back(exact(s + i, g, d));
          channel = oracle::in_4_bits(channel);
          for (index_t i = 0; i < 32; ++i) seen(s + i, g, d) = static_cast<float>(channel[i]);
        }
      }
    }
  return seen;
}

/// Attention of every token over the rows as it sees them.  @return (T,H,W)
Tensor<3> attend_seen(const Tensor<3>& queries, index_t window,
                      const std::function<Tensor<3>(index_t)>& keys,
                      const std::function<Tensor<3>(index_t)>& values) {
  Tensor<3> mixed;
  for (index_t t = 0; t < queries.shape(0); ++t) {
    const index_t first = t + 1 > window ? t + 1 - window : 0, count = t + 1 - first;
    const Doubles<3> one = oracle::attention(oracle::widen(rows(queries, t, 1)),
                                             oracle::widen(rows(keys(t), first, count)),
                                             oracle::widen(rows(values(t), first, count)), count);
    if (t == 0) mixed = empty<3>({queries.shape(0), queries.shape(1), one.shape(2)});
    std::copy(one.begin(), one.end(), mixed.data() + t * one.size());
  }
  return mixed;
}

/// A row of a cache in 8-bit integers, widened, and the scales of its value.
struct IntegerRow {
  Numbers key, value, scales;
};

/// Attention in integers by its definition: the first numbers of a query and, block by block of 128
/// rows and run by run, the weights times the scales are rounded to 16 bits.
/// @param rounded numbers of a query that meet integers  @param run numbers of a value that share a scale
Tensor<3> attend_in_integers(const Tensor<3>& queries, float scale, index_t window, index_t rounded, index_t run,
                             const std::vector<std::vector<IntegerRow>>& rows) {
  const index_t T = queries.shape(0), H = queries.shape(1), W = rows[0][0].value.size();
  Tensor<3> mixed = empty<3>({T, H, W});
  for (index_t t = 0; t < T; ++t)
    for (index_t h = 0; h < H; ++h) {
      Numbers query;
      for (const float x : row(queries, t, h)) query.push_back(x * scale);
      std::ranges::copy(oracle::in_16_bits({query.begin(), query.begin() + static_cast<std::ptrdiff_t>(rounded)}), query.begin());
      const index_t first = t + 1 > window ? t + 1 - window : 0, g = h * rows[0].size() / H;
      Numbers weights(t + 1, 0.0);
      for (index_t s = first; s <= t; ++s)
        weights[s] = std::inner_product(query.begin(), query.end(), rows[s][g].key.begin(), 0.0);
      const double largest = *std::max_element(weights.begin() + static_cast<std::ptrdiff_t>(first), weights.end());
      double sum = 0;
      for (index_t s = first; s <= t; ++s) sum += weights[s] = std::exp(weights[s] - largest);
      Numbers out(W, 0.0);
      for (index_t block = first; block <= t; block = (block / 128 + 1) * 128)
        for (index_t d = 0; d < W; d += run) {
          const index_t end = std::min(t + 1, (block / 128 + 1) * 128), j = d / run;
          Numbers scaled;
          for (index_t s = block; s < end; ++s) scaled.push_back(oracle::to_f32(weights[s] * rows[s][g].scales[j]));
          scaled = oracle::in_16_bits(scaled);
          for (index_t s = block; s < end; ++s)
            for (index_t i = d; i < std::min(d + run, W); ++i)
              if (rows[s][g].scales[j] > 0) out[i] += scaled[s - block] * rows[s][g].value[i] / rows[s][g].scales[j];
        }
      for (index_t i = 0; i < W; ++i) mixed(t, h, i) = static_cast<float>(out[i] / sum);
    }
  return mixed;
}

std::vector<index_t> positions_to(index_t count) {
  std::vector<index_t> result;
  for (index_t t = 0; t < count; ++t) result.push_back(t);
  return result;
}

std::vector<std::vector<index_t>> chunkings(index_t total) {
  std::vector<index_t> sevens(total / 7, 7), in_turn;
  if (total % 7 != 0) sevens.push_back(total % 7);
  for (index_t rest = total, next = 31; rest > 0; next = 64 - next) {
    in_turn.push_back(std::min(rest, next));
    rest -= in_turn.back();
  }
  return {{total}, std::vector<index_t>(total, 1), sevens, in_turn, {total - 33, 32, 1}};
}

}  // namespace

TEST_CASE("a stored row is what its format's definition says, in double precision", "[formats]") {
  const CacheFormat format = GENERATE(from_range(std::begin(all_formats), std::end(all_formats)));
  const index_t width = GENERATE(1, 6, 7, 8, 34, 64, 128, 130, 192, 512);
  for (const index_t run : {width, index_t{128}}) {
    const LatentSizes sizes{.width = 1,
                            .heads = 1,
                            .rank = width,
                            .rope_width = 2,
                            .plain_width = 1,
                            .value_width = 1,
                            .query_rank = {}};
    const auto row_format = run == 128 ? latent_formats(format, sizes).first
                                       : head_formats(format, {1, 1, width, width}).first;
    REQUIRE(row_format->width() == width);
    CHECK(row_format->bytes() % 2 == 0);
    for (const auto& [kind, numbers] : rows_of(width)) {
      CAPTURE(name(format), width, run, kind);
      const std::vector<float> found = through(*row_format, numbers);
      const std::vector<float> expected = narrow(oracle::rounded(format, widened(numbers), run));
      index_t i = 0;
      while (i < width &&
             (found[i] == expected[i] || (std::isnan(found[i]) && std::isnan(expected[i]))))
        ++i;
      CHECK(i == width);
    }
  }
}

TEST_CASE("what is documented of rows without numbers, of zeros and of equal numbers",
          "[formats]") {
  for (const CacheFormat format : {CacheFormat::fp8, CacheFormat::int8, CacheFormat::int4}) {
    CAPTURE(name(format));
    const auto row_format = head_formats(format, {1, 1, 32, 32}).first;
    for (const auto& [kind, numbers] : rows_of(32)) {
      CAPTURE(kind);
      const std::vector<float> found = through(*row_format, numbers);
      const bool is_finite = std::ranges::all_of(numbers, [](float x) { return std::isfinite(x); });
      if (!is_finite) CHECK(std::ranges::all_of(found, [](float x) { return std::isnan(x); }));
      if (std::string(kind).ends_with("zeros")) CHECK(found == std::vector<float>(32, 0.0f));
      if (std::string(kind) == "equal")
        CHECK(std::ranges::all_of(found, [](float x) { return std::abs(x - 0.3f) < 1e-4f; }));
    }
    // A broken run does not spread: in FlashMLA's row the others have scales of their own.
    std::vector<float> row = random_floats(256, 1);
    row[200] = NAN;
    const LatentSizes sizes{.width = 1,
                            .heads = 1,
                            .rank = 256,
                            .rope_width = 2,
                            .plain_width = 1,
                            .value_width = 1,
                            .query_rank = {}};
    const std::vector<float> found = through(*latent_formats(format, sizes).first, row);
    CHECK(
        std::ranges::all_of(std::span(found).first(128), [](float x) { return std::isfinite(x); }));
    CHECK(std::ranges::all_of(std::span(found).subspan(192, 32),
                              [](float x) { return std::isnan(x); }));
  }
}

TEST_CASE("no number is further off than its format allows", "[formats]") {
  const std::vector<float> row = random_floats(512, 20);
  const auto largest_error = [&](CacheFormat format, bool is_relative) {
    const std::vector<float> found = through(*head_formats(format, {1, 1, 512, 512}).first, row);
    double largest = 0;
    for (index_t i = 0; i < row.size(); ++i)
      largest = std::max(largest, std::abs(double{found[i]} - row[i]) /
                                      (is_relative ? std::abs(double{row[i]}) : 1.0));
    return largest;
  };
  CHECK(largest_error(CacheFormat::bf16, true) <= 0x1p-8);
  CHECK(largest_error(CacheFormat::f16, true) <=
        0x1.01p-11);  // and a little where numbers are subnormal
  CHECK(largest_error(CacheFormat::int8, false) <= 1.5 / 127 / 2 * 1.001);
  CHECK(largest_error(CacheFormat::int4, false) <= 2.5 / 15 / 2 * 1.01);
  const double scale = 1.5 / 448;
  CHECK(largest_error(CacheFormat::fp8, false) <=
        32 * scale / 2 * 1.001);  // between 256 and 448 a step is 32
}

TEST_CASE("a latent row in fp8 is FlashMLA's: 656 bytes", "[formats]") {
  const LatentSizes sizes = latent_config(published("deepseek-v3")).sizes;
  const RowFormats formats = latent_formats(CacheFormat::fp8, sizes);
  REQUIRE(formats.bytes() == 656);
  REQUIRE(formats.first->bytes() == 512 + 4 * 4);
  std::vector<float> row = random_floats(576, 21);
  for (index_t j = 0; j < 4; ++j)
    row[128 * j + 5] = 448.0f * static_cast<float>(1 << j);  // so the scales are 1, 2, 4, 8
  std::vector<std::byte> stored(656);
  formats.first->store(std::span(row).first(512), stored.data());
  formats.second->store(std::span(row).subspan(512), stored.data() + 528);
  for (index_t j = 0; j < 4; ++j) {
    float scale;
    std::memcpy(&scale, &stored[512 + 4 * j], 4);
    CHECK(scale == static_cast<float>(1 << j));
    CHECK(stored[128 * j + 5] == std::byte{0x7e});
    CHECK(stored[128 * j + 6] == std::byte{to_f8_e4m3(row[128 * j + 6] / scale)});
  }
  for (index_t i = 0; i < 64; ++i) {
    std::uint16_t number;
    std::memcpy(&number, &stored[528 + 2 * i], 2);
    CHECK(number == to_bf16(row[512 + i]));
  }
}

TEST_CASE("rows of an odd width: scales from an even byte on, and nothing between rows is touched", "[formats]") {
  const DType type = GENERATE(DType::i8, DType::f8_e4m3);
  const ScaledRows format(type, 7, 4);  // runs of 4 and of 3
  REQUIRE(format.bytes() == 8 + 2 * 4);
  constexpr index_t distance = 18, stride = 9;
  const std::vector<float> rows[]{random_floats(7, 23), random_floats(7, 24)};
  std::vector<std::byte> stored(2 * distance, std::byte{0xff});
  for (index_t s = 0; s < 2; ++s) format.store(rows[s], stored.data() + s * distance);
  std::vector<float> wide(2 * stride, 7.0f);
  format.widen({stored.data(), distance, 2}, wide.data(), stride);
  for (index_t s = 0; s < 2; ++s) {
    CAPTURE(name(type), s);
    CHECK((stored[s * distance + 16] == std::byte{0xff} && stored[s * distance + 17] == std::byte{0xff}));
    for (index_t j = 0; j < 2; ++j) {
      float scale, largest = 0.0f;
      std::memcpy(&scale, &stored[s * distance + 8 + 4 * j], sizeof scale);
      for (index_t i = 4 * j; i < std::min<index_t>(4 * j + 4, 7); ++i) largest = std::max(largest, std::abs(rows[s][i]));
      CHECK(scale == largest / (type == DType::i8 ? 127.0f : 448.0f));
    }
    const std::vector<float> found(&wide[s * stride], &wide[s * stride + 7]);
    CHECK(found == through(format, rows[s]));
    CHECK((wide[s * stride + 7] == 7.0f && wide[s * stride + 8] == 7.0f));
  }
}

TEST_CASE("with a scale that was measured before, numbers end at 448 scales", "[static]") {
  for (const float scale : {1.0f, 0.013f, 700.0f, 3e-40f})
    for (const index_t width : {index_t{1}, index_t{7}, index_t{32}, index_t{130}}) {
      const StaticRows format(scale, width);
      CHECK(format.bytes() == (width + 1) / 2 * 2);
      for (const auto& [kind, numbers] : rows_of(width)) {
        const std::vector<float> found = through(format, numbers);
        index_t i = 0;
        for (; i < width; ++i) {
          const double x = numbers[i];
          const double expected =
              oracle::to_f32(oracle::to_e4m3(oracle::to_f32(x / scale)) * scale);
          if (std::isfinite(x) ? found[i] != static_cast<float>(expected) : !std::isnan(found[i]))
            break;
        }
        CAPTURE(scale, width, kind);
        CHECK(i == width);
      }
    }
}

namespace {

/// A small model that brings scales for its cache, as compressed-tensors writes them.
SmallModel with_cache_scales(float key, float value) {
  SmallModel model{.config = {{"quantization_config", R"({"quant_method": "compressed-tensors",
      "format": "dense", "config_groups": {}, "kv_cache_scheme": {"num_bits": 8, "type": "float",
      "strategy": "tensor", "symmetric": true, "dynamic": false}})"}}};
  for (index_t layer = 0; layer < model.layers; ++layer) {
    const std::string attention = "model.layers." + std::to_string(layer) + ".self_attn.";
    model.more.push_back({attention + "k_scale", DType::f32, {1}, {key}});
    model.more.push_back({attention + "v_scale", DType::bf16, {1}, {value}});
  }
  return model;
}

std::string fp8_error(const SmallModel& model) {
  const SmallCheckpoint files(model);
  return error_of(
      [&] { make_decoder(files.open(), find_stage("fp8"), {.sequences = 1, .capacity = 4}); });
}

}  // namespace

TEST_CASE("stage fp8 takes the scales that a checkpoint brings", "[static]") {
  const SmallCheckpoint files(with_cache_scales(0.02f, 0.0078125f));
  const Checkpoint checkpoint = files.open();
  const Limits limits{.sequences = 1, .capacity = 60};
  const auto heads = head_projection(checkpoint, 1);
  const Tensor<2> x = random_tensor<2>({60, 40}, 40);
  const auto layer = make_attention(checkpoint, find_stage("fp8"), 1, limits);
  QuantisedAttention expected(heads, limits,
                              static_head_formats({0.02f, 0.0078125f}, heads->sizes()));
  QuantisedAttention own_scales(heads, limits, head_formats(CacheFormat::fp8, heads->sizes()));
  const Tensor<2> y = feed(*layer, x, {{0, 0, 60}});
  CHECK(exact(y, feed(expected, x, {{0, 0, 60}})));
  CHECK_FALSE(exact(y, feed(own_scales, x, {{0, 0, 60}})));
  CHECK(layer->state_bytes() ==
        StateBytes{60 * 2 * 20, 60 * 2 * 20});  // no scale beside the numbers
  CHECK(cache_bytes(checkpoint.config(), "fp8", limits) == 2 * 60 * 2 * 20);
  for (const char* other : {"preallocated", "int8"})
    CHECK_NOTHROW(make_attention(checkpoint, find_stage(other), 1, limits));
}

TEST_CASE("scales that are missing or no scales are refused by name", "[static]") {
  for (const float wrong : {0.0f, -1.0f, NAN, INFINITY})
    CHECK(holds(fp8_error(with_cache_scales(wrong, 1.0f)), "layers.0.self_attn.k_scale'"));
  SmallModel model = with_cache_scales(1.0f, 1.0f);
  model.more.pop_back();
  CHECK(holds(fp8_error(model), "layers.1.self_attn.v_scale"));
  model = with_cache_scales(1.0f, 1.0f);
  model.more[0] = {"model.layers.0.self_attn.k_scale", DType::f32, {2}, {1.0f, 1.0f}};
  CHECK(holds(fp8_error(model), "k_scale"));
  CHECK(fp8_error(with_cache_scales(1.0f, 1.0f)) == "no error");
}

TEST_CASE("the rungs that every chapter's attention climbs", "[layer]") {
  const CacheFormat format = GENERATE(from_range(std::begin(all_formats), std::end(all_formats)));
  CAPTURE(name(format));
  chunking_changes_nothing(layers_in(format));
  batch_row_equals_solo_run(layers_in(format));
  looks_back_only(layers_in(format));
  forgets_what_is_truncated(layers_in(format));
  refuses_wrong_shapes(layers_in(format));
}

TEST_CASE("attention over stored heads, against rows rounded by definition and double precision",
          "[layer]") {
  const CacheFormat format = GENERATE(from_range(std::begin(all_formats), std::end(all_formats)));
  std::vector<RandomProjection> kinds = all_kinds_of_heads();
  kinds.emplace_back(HeadSizes{4, 2, 192, 128}, 40, true, 700);
  kinds.emplace_back(HeadSizes{6, 2, 8, 6, 20}, 28, true, 800);  // a window of the layer's own
  for (const RandomProjection& heads : kinds) {
    const auto [H, G, D, W, window] = heads.weights.sizes;
    const index_t T = format == CacheFormat::int8 ? 140 : 100;  // more than one block of 128
    const Tensor<2> x = random_tensor<2>({T, heads.width}, 22);
    const Heads exact = heads.projection->project(x, positions_to(T));
    Tensor<3> mixed;
    if (format == CacheFormat::int8) {
      std::vector<std::vector<IntegerRow>> rows(T, std::vector<IntegerRow>(G));
      for (index_t s = 0; s < T; ++s)
        for (index_t g = 0; g < G; ++g) {
          const Numbers key = widened(row(exact.keys, s, g)), value = widened(row(exact.values, s, g));
          rows[s][g] = {oracle::rounded(format, key, D), oracle::rounded(format, value, W), oracle::scales_of_i8(value, W)};
        }
      mixed = attend_in_integers(exact.queries, 1.0f / std::sqrt(static_cast<float>(D)), window, D, W, rows);
    } else {
      mixed = attend_seen(
          exact.queries, window, [&](index_t t) { return seen_by(format, exact.keys, t, true); },
          [&](index_t t) { return seen_by(format, exact.values, t, false); });
    }
    const auto layer = layers_in(format)(heads.projection, {.sequences = 1, .capacity = T});
    CAPTURE(name(format), H, G, D, W, window);
    CHECK(close(feed(*layer, x, {{0, 0, T}}), oracle::widen(heads.projection->output(mixed)), 1e-5,
                "the oracle is in double precision"));
  }
}

TEST_CASE("attention over stored latents, against rows rounded by definition and double precision",
          "[layer]") {
  const CacheFormat format = GENERATE(from_range(std::begin(all_formats), std::end(all_formats)));
  const Checkpoint checkpoint = shipped("tiny-mla");
  const auto latent = latent_projection(checkpoint, 1);
  const LatentSizes& sizes = latent->latent_sizes();
  const index_t T = 150;
  const Tensor<2> x = random_tensor<2>({T, sizes.width}, 23);
  Tensor<2> rows = latent->latents(x, positions_to(T));
  for (index_t s = 0; s < T; ++s) {
    const auto both = row(rows, s);
    const CacheFormat rotated = format == CacheFormat::f16 ? CacheFormat::f16 : CacheFormat::bf16;
    std::ranges::copy(narrow(oracle::rounded(format, widened(both.first(sizes.rank)), 128)),
                      both.begin());
    std::ranges::copy(narrow(oracle::rounded(rotated, widened(both.subspan(sizes.rank)), 128)),
                      both.subspan(sizes.rank).begin());
  }
  const Tensor<3> queries = latent->queries(x, positions_to(T));
  Tensor<3> mixed;
  if (format == CacheFormat::int8) {
    std::vector<std::vector<IntegerRow>> stored(T, std::vector<IntegerRow>(1));
    const Tensor<2> exact = latent->latents(x, positions_to(T));
    for (index_t s = 0; s < T; ++s) {
      const Numbers key = widened(row(rows, s));
      stored[s][0] = {key, {key.begin(), key.begin() + static_cast<std::ptrdiff_t>(sizes.rank)},
                      oracle::scales_of_i8(widened(row(exact, s).first(sizes.rank)), 128)};
    }
    const Absorption both = absorption(checkpoint, 1);
    mixed = both.lift(attend_in_integers(both.absorb(queries), 1.0f / std::sqrt(static_cast<float>(sizes.key_width())),
                                         no_window, sizes.rank, 128, stored));
  } else {
    const auto [keys, values] = latent->expand(rows);
    mixed = attend_seen(
        queries, no_window, [&](index_t) { return keys; }, [&](index_t) { return values; });
  }
  QuantisedLatents layer(latent, absorption(checkpoint, 1), {.sequences = 1, .capacity = T},
                         latent_formats(format, sizes));
  CAPTURE(name(format));
  CHECK(close(feed(layer, x, {{0, 0, T}}), oracle::widen(latent->output(mixed)), 1e-5,
              "absorption changes the order of the sums"));
}

TEST_CASE("whole models: chunks change no bit", "[models]") {
  const Checkpoint checkpoint = shipped(GENERATE("tiny-gqa", "tiny-mla"));
  const Stage& stage =
      find_stage(GENERATE(from_range(std::begin(stage_names), std::end(stage_names))));
  const std::vector<Token> tokens = random_tokens(500, 1000, 24);
  const Tensor<2> expected = whole_logits(checkpoint, stage, tokens);
  for (const std::vector<index_t>& chunks : chunkings(500)) {
    CAPTURE(stage.name, chunks.size(), chunks[0]);
    Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 1, .capacity = 500});
    CHECK(exact(logits_in_chunks(decoder, 0, tokens, chunks), expected));
  }
}

TEST_CASE("whole models: a batch row is its solo run, whatever the threads and instructions",
          "[models]") {
  const Checkpoint checkpoint = shipped(GENERATE("tiny-gqa", "tiny-mla"));
  const Stage& stage =
      find_stage(GENERATE(from_range(std::begin(stage_names), std::end(stage_names))));
  const std::vector<Token> a = random_tokens(150, 1000, 25), b = random_tokens(65, 1000, 26);
  const Tensor<2> expected_a = whole_logits(checkpoint, stage, a),
                  expected_b = whole_logits(checkpoint, stage, b);
  for (const InstructionSet set : available_instruction_sets())
    for (const index_t threads : {index_t{1}, index_t{2}}) {
      const Machine machine(set, threads);
      Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 2, .capacity = 150});
      const Tensor<2> first = decoder.logits({{1, part(b, 0, 64)}, {0, part(a, 0, 149)}});
      const Tensor<2> second = decoder.logits({{0, part(a, 149, 1)}, {1, part(b, 64, 1)}});
      CAPTURE(stage.name, kv::name(set), threads);
      CHECK(exact(rows(first, 0, 64), rows(expected_b, 0, 64)));
      CHECK(exact(rows(first, 64, 149), rows(expected_a, 0, 149)));
      CHECK(exact(rows(second, 0, 1), rows(expected_a, 149, 1)));
      CHECK(exact(rows(second, 1, 1), rows(expected_b, 64, 1)));
    }
}

TEST_CASE("whole models: a prefix that is shared or cut gives the same bits", "[models]") {
  const Checkpoint checkpoint = shipped(GENERATE("tiny-gqa", "tiny-mla"));
  const Stage& stage =
      find_stage(GENERATE(from_range(std::begin(stage_names), std::end(stage_names))));
  const std::vector<Token> tokens = random_tokens(140, 1000, 27),
                           other = random_tokens(20, 1000, 28);
  const Tensor<2> expected = whole_logits(checkpoint, stage, tokens);
  for (const index_t kept : {0, 1, 31, 32, 33, 64, 95, 100, 119}) {
    CAPTURE(stage.name, kept);
    Decoder decoder = make_decoder(checkpoint, stage, {.sequences = 2, .capacity = 140});
    decoder.logits({{0, part(tokens, 0, 120)}, {1, other}});
    decoder.share(0, 1, kept);
    CHECK(
        exact(decoder.logits(1, part(tokens, kept, 140 - kept)), rows(expected, kept, 140 - kept)));
    decoder.truncate(0, kept);
    CHECK(
        exact(decoder.logits(0, part(tokens, kept, 140 - kept)), rows(expected, kept, 140 - kept)));
  }
}

TEST_CASE("int4 goes back to what is still exact, or to whole groups", "[int4]") {
  const RandomProjection heads = grouped_heads();
  const Tensor<2> x = random_tensor<2>({130, heads.width}, 29);
  const auto kept = [&](index_t held, index_t length) {
    Int4Attention layer(heads.projection, {.sequences = 2, .capacity = 130});
    feed(layer, rows(x, 0, held), {{0, 0, held}});
    const index_t shared = layer.share(0, 1, length);
    CHECK(layer.length(1) == shared);
    CHECK(layer.truncate(0, length) == shared);
    CHECK(layer.length(0) == shared);
    CHECK_THROWS_AS(layer.truncate(0, shared + 1), std::out_of_range);
    CHECK_THROWS_AS(layer.share(0, 1, shared + 1), std::out_of_range);
    return shared;
  };
  CHECK(kept(100, 100) == 100);
  CHECK(kept(100, 97) == 97);
  CHECK(kept(100, 96) == 96);
  CHECK(kept(100, 95) == 64);
  CHECK(kept(100, 64) == 64);
  CHECK(kept(100, 63) == 32);
  CHECK(kept(100, 31) == 0);
  CHECK(kept(96, 95) == 95);  // the group is whole, but nobody came after it
  CHECK(kept(96, 65) == 65);
  CHECK(kept(97, 95) == 64);
  CHECK(kept(10, 0) == 0);
}

TEST_CASE("keys in int4 are rounded by channel: an outlier channel leaves the others alone",
          "[int4]") {
  const HeadSizes sizes{1, 1, 16, 16};
  Int4Cache cache(sizes, 128);
  Tensor<3> keys = random_tensor<3>({33, 1, 16}, 30), values = keys;
  for (index_t s = 0; s < 33; ++s) keys(s, 0, 3) = values(s, 0, 3) = 100.0f + keys(s, 0, 3);
  cache.append(keys, values, 0, 32);
  cache.append(keys, values, 32, 1);
  const SharedRows stored = cache.block(0, 0, 33).pieces.front();
  REQUIRE(stored.keys.count == 32);
  double of_keys = 0, of_values = 0;
  for (index_t s = 0; s < 32; ++s)
    for (index_t d = 0; d < 16; ++d) {
      of_keys = std::max<double>(
          of_keys, std::abs(stored.keys.data[s * stored.keys.stride + d] - keys(s, 0, d)));
      of_values = std::max<double>(
          of_values, std::abs(stored.values.data[s * stored.values.stride + d] - values(s, 0, d)));
    }
  CHECK(of_keys < 0.12);
  CHECK(of_values > 1.0);
  CHECK_THROWS_AS(cache.append(keys, values, 0, 32), std::invalid_argument);  // rows of two groups
}

TEST_CASE("a layer takes exactly the bytes that its format says", "[bytes]") {
  struct Expected {
    CacheFormat format;
    std::size_t gqa, mla, v3;  // for a token in a layer: tiny-gqa, tiny-mla, DeepSeek-V3
  };
  // Heads: 2 x (32 + 32). Latents: 64 + 16, and 512 + 64.
  const auto [format, gqa, mla, v3] =
      GENERATE(values<Expected>({{CacheFormat::bf16, 256, 160, 1152},
                                 {CacheFormat::f16, 256, 160, 1152},
                                 {CacheFormat::fp8, 144, 100, 656},
                                 {CacheFormat::int8, 144, 100, 656},
                                 {CacheFormat::int4, 80, 72, 448}}));
  const index_t C = 161, layers = 5;
  CAPTURE(name(format));
  const bool in_groups = format == CacheFormat::int4;
  const std::size_t open = 32 * 2 * (32 + 32) * 4;  // f32 rows of a group that is not whole yet
  Decoder on_heads =
      make_decoder(shipped("tiny-gqa"), find_stage(name(format)), {.sequences = 2, .capacity = C});
  CHECK(on_heads.state_bytes() ==
        StateBytes{2 * layers * (in_groups ? 160 * gqa + open : C * gqa), 0});
  on_heads.logits(1, random_tokens(70, 1000, 31));
  CHECK(on_heads.state_bytes().used ==
        layers * (in_groups ? 64 * gqa + 6 * 2 * (32 + 32) * 4 : 70 * gqa));
  Decoder on_latents =
      make_decoder(shipped("tiny-mla"), find_stage(name(format)), {.sequences = 2, .capacity = C});
  CHECK(on_latents.state_bytes() == StateBytes{2 * layers * C * mla, 0});
  on_latents.logits(1, random_tokens(70, 1000, 31));
  CHECK(on_latents.state_bytes().used == layers * 70 * mla);

  const LatentSizes sizes = latent_config(published("deepseek-v3")).sizes;
  const RowLayout layout{.heads = 1, .key_width = 576, .value_offset = 0, .value_width = 512};
  CHECK(QuantisedCache(latent_formats(format, sizes), layout, C).bytes().allocated == C * v3);
  for (const char* model : {"qwen3-30b-a3b", "mixtral-8x7b"}) {
    const HeadSizes heads = grouped_config(published(model)).heads;
    REQUIRE(heads.key_width == 128);
    const std::size_t G = heads.key_value_heads;
    if (in_groups)
      CHECK(Int4Cache(heads, C).bytes().allocated == 160 * G * 160 + 32 * G * 256 * 4);
    else
      CHECK(QuantisedCache(head_formats(format, heads), layout_of(heads), C).bytes().allocated ==
            C * G * (format == CacheFormat::bf16 || format == CacheFormat::f16 ? 512 : 264));
  }
}
