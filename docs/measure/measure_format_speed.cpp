#include <random>

#include "chapters/01_uncached_attention/attend.hpp"
#include "chapters/08_quantised_cache/cache_formats.hpp"
#include "chapters/08_quantised_cache/int4_cache.hpp"
#include "chapters/08_quantised_cache/quantised_cache.hpp"
#include "common/model/metrics.hpp"
#include "common/tensor/attention_sums.hpp"
#include "common/tensor/parallel.hpp"
#include "common/text/table.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

const std::vector<std::pair<std::string, CacheFormat>> formats{{"bf16", CacheFormat::bf16},
                                                               {"f16", CacheFormat::f16},
                                                               {"fp8", CacheFormat::fp8},
                                                               {"int8", CacheFormat::int8},
                                                               {"int4", CacheFormat::int4}};
constexpr index_t lengths[]{2048, 8192, 32768};
constexpr index_t rounds = 15;

/// A cache that is full, and what one step reads of it.
struct Filled {
  std::string format;
  std::unique_ptr<RowSource> rows;
  std::size_t bytes;
  std::vector<double> milliseconds = {};
};

/// One layer's attention in one decode step: the query heads of one token.
struct LayerShape {
  std::string name;
  index_t query_heads;
  RowLayout layout;
};

Tensor<3> random_rows(index_t count, index_t heads, index_t width) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  Tensor<3> rows = empty<3>({count, heads, width});
  for (float& x : rows) x = normal(random);
  return rows;
}

/// In f32, as stages preallocated and absorbed keep them.
class PlainRows : public RowSource {
 public:
  PlainRows(const RowLayout& layout, index_t S)
      : layout_(layout), rows_(random_rows(S, layout.heads, layout.width())) {}
  index_t heads() const override { return layout_.heads; }
  index_t value_width() const override { return layout_.value_width; }
  index_t count(index_t) const override { return rows_.shape(0); }
  const RowBlock& block(index_t g, index_t first, index_t count) const override {
    thread_local RowBlock block;
    const RowsView keys{rows_.data() + (first * layout_.heads + g) * layout_.width(),
                        layout_.heads * layout_.width(), count, layout_.key_width};
    block.pieces.assign(
        1, {keys, {keys.data + layout_.value_offset, keys.stride, count, layout_.value_width}});
    return block;
  }

 private:
  RowLayout layout_;
  Tensor<3> rows_;
};

constexpr index_t at_once = 32;

std::unique_ptr<RowSource> heads_in(CacheFormat format, const RowLayout& layout, index_t S) {
  const Tensor<3> keys = random_rows(at_once, layout.heads, layout.key_width),
                  values = random_rows(at_once, layout.heads, layout.value_width);
  const HeadSizes sizes{layout.heads, layout.heads, layout.key_width, layout.value_width};
  const auto fill = [&](auto cache) -> std::unique_ptr<RowSource> {
    for (index_t s = 0; s < S; s += at_once) cache->append(keys, values, 0, at_once);
    return cache;
  };
  if (format == CacheFormat::int4) return fill(std::make_unique<Int4Cache>(sizes, S));
  return fill(std::make_unique<QuantisedCache>(head_formats(format, sizes), layout, S));
}

std::unique_ptr<RowSource> latents_in(CacheFormat format, const RowLayout& layout, index_t S) {
  const index_t R = layout.value_width, P = layout.key_width - R;
  const LatentSizes sizes{.width = 1,
                          .heads = 1,
                          .rank = R,
                          .rope_width = P,
                          .plain_width = 1,
                          .value_width = 1,
                          .query_rank = {}};
  auto cache = std::make_unique<QuantisedCache>(latent_formats(format, sizes), layout, S);
  const Tensor<3> random = random_rows(1, at_once, R + P);
  Tensor<2> rows = empty<2>({at_once, R + P});
  std::ranges::copy(random, rows.begin());
  for (index_t s = 0; s < S; s += at_once) cache->append(rows, 0, at_once);
  return cache;
}

std::vector<Filled> filled(const LayerShape& shape, index_t S) {
  std::vector<Filled> result;
  result.push_back({"f32", std::make_unique<PlainRows>(shape.layout, S),
                    S * shape.layout.heads * shape.layout.width() * sizeof(float)});
  const bool is_latent = shape.layout.value_offset == 0;
  for (const auto& [name, format] : formats) {
    auto rows = is_latent ? latents_in(format, shape.layout, S) : heads_in(format, shape.layout, S);
    const auto* int4 = dynamic_cast<const Int4Cache*>(rows.get());
    const StateBytes bytes =
        int4 ? int4->bytes() : dynamic_cast<const QuantisedCache&>(*rows).bytes();
    result.push_back({name, std::move(rows), bytes.used});
  }
  return result;
}

template <class Work>
double median_milliseconds(Work work) {
  std::vector<double> all;
  for (index_t round = 0; round < rounds; ++round) {
    const Stopwatch watch;
    work();
    all.push_back(watch.milliseconds());
  }
  return median(all);
}

/// What nothing can exceed: bytes read once from memory, and sums over rows that stay in the first
/// cache.
struct Roofline {
  double gigabytes_per_s, gigaflop_per_s;
};

Roofline roofline() {
  constexpr index_t width = 128, rows = 1 << 19, cached_rows = 32, queries = 32, repeats = 2000;
  const Tensor<2> memory = zeros<2>({rows, width}), cached = zeros<2>({cached_rows, width}),
                  asked = zeros<2>({queries, width});
  const RowsView all{memory.data(), width, rows, width}, one{asked.data(), width, 1, width},
      few{cached.data(), width, cached_rows, width}, many{asked.data(), width, queries, width};
  std::vector<float> scores(rows);
  const double reading = median_milliseconds([&] {
    parallel_for(rows, 4096, [&](index_t first, index_t last) {
      dot_rows(one, slice(all, first, last - first), &scores[first], rows);
    });
  });
  const double computing = median_milliseconds([&] {
    parallel_for(repeats, 1, [&](index_t first, index_t last) {
      std::vector<float> own(queries * cached_rows);
      for (index_t i = first; i < last; ++i) dot_rows(many, few, own.data(), cached_rows);
    });
  });
  const double flop = 2.0 * repeats * queries * cached_rows * width;
  return {static_cast<double>(memory.size() * sizeof(float)) / reading / 1e6,
          flop / computing / 1e6};
}

/// Every format in turn, as often as it takes for a median.
std::vector<Filled> timed(const LayerShape& shape, index_t S) {
  const Tensor<3> queries = random_rows(1, shape.query_heads, shape.layout.key_width);
  std::vector<Filled> caches = filled(shape, S);
  for (index_t round = 0; round < rounds; ++round)
    for (Filled& cache : caches) {
      const Stopwatch watch;
      attend(queries, *cache.rows, {.position = S - 1}, 0.1f);
      cache.milliseconds.push_back(watch.milliseconds());
    }
  return caches;
}

const LayerShape shapes[]{{"heads, H 32, G 8, D 128",
                           32,
                           {.heads = 8, .key_width = 128, .value_offset = 128, .value_width = 128}},
                          {"latents, H 16, R 512, P 64",
                           16,
                           {.heads = 1, .key_width = 576, .value_offset = 0, .value_width = 512}}};

}  // namespace

void measure_format_speed(const Laboratory&, Report& report) {
  std::vector<std::string> head{"shape", "tokens", "f32, ms", "GB/s", "GFLOP/s"};
  for (const auto& [name, format] : formats) head.push_back(name);
  MarkdownTable table{head};
  std::vector<JsonObject> numbers;
  const Roofline roof = roofline();
  for (const LayerShape& shape : shapes)
    for (const index_t S : lengths) {
      const std::vector<Filled> caches = timed(shape, S);
      const double exact = median(caches.front().milliseconds);
      const index_t widths = shape.layout.key_width + shape.layout.value_width;
      const double gigaflop = 2e-9 * static_cast<double>(S * shape.query_heads * widths);
      std::vector<std::string> line{
          shape.name, grouped(S), decimal(exact, 3),
          decimal(static_cast<double>(caches.front().bytes) / exact / 1e6, 1),
          decimal(1000 * gigaflop / exact, 1)};
      for (const Filled& cache : caches) {
        const double ms = median(cache.milliseconds);
        if (&cache != &caches.front()) line.push_back(decimal(exact / ms, 2));
        numbers.push_back(JsonObject()
                              .set("shape", shape.name)
                              .set("tokens", S)
                              .set("format", cache.format)
                              .set("bytes", cache.bytes)
                              .set("ms", ms));
      }
      table.push_back(line);
    }
  report.with_model("One layer of Llama-3-8B's and one of DeepSeek-V2-Lite's sizes, random rows")
      .table("format_speed", table,
             "Attention of one new token, without the projections: in f32, and the speed of each "
             "format over that of f32. Medians of " +
                 std::to_string(rounds) +
                 ", the formats in turns. In the same run the machine read " +
                 decimal(roof.gigabytes_per_s, 1) + " GB/s from memory and computed " +
                 decimal(roof.gigaflop_per_s, 0) +
                 " GFLOP/s on rows that stay in its first cache: the two roofs.");
  report.numbers("format_speed", numbers);
  report.numbers("format_speed_roofline", {JsonObject()
                                               .set("gigabytes_per_s", roof.gigabytes_per_s)
                                               .set("gigaflop_per_s", roof.gigaflop_per_s)});
}

}  // namespace kv::book
