#include <cmath>

#include "chapters/01_uncached_attention/attend.hpp"
#include "chapters/04_latent_cache/absorption.hpp"
#include "chapters/04_latent_cache/attend_latents.hpp"
#include "chapters/04_latent_cache/cost.hpp"
#include "chapters/04_latent_cache/latent_projection.hpp"
#include "chapters/models/cache_bytes.hpp"
#include "chapters/models/latent_config.hpp"
#include "chapters/studies/decoupling.hpp"
#include "common/model/metrics.hpp"
#include "common/text/table.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

constexpr index_t longest = 4096;

Tensor<2> normal_rows(index_t count, index_t width, unsigned seed) {
  Tensor<2> rows = empty<2>({count, width});
  std::ranges::copy(normal_floats(count * width, 1.0, seed), rows.begin());
  return rows;
}

/// A matrix in bf16, as checkpoints are.
struct Matrix {
  index_t rows, columns;
  std::vector<std::uint16_t> values;

  Matrix(index_t rows, index_t columns, unsigned seed) : rows(rows), columns(columns) {
    for (const float value : normal_floats(rows * columns, 1.0 / std::sqrt(static_cast<double>(columns)), seed))
      values.push_back(to_bf16(value));
  }
  MatrixView view() const { return {values.data(), DType::bf16, rows, columns, columns, 1}; }
  std::shared_ptr<const Linear> linear() const { return std::make_shared<const Linear>(view()); }
};

/// A layer with DeepSeek's head sizes and any number of heads. The model is narrow, for it is not measured.
struct LatentLayer {
  LatentSizes sizes;
  LatentProjection projection;
  Absorption absorption;

  explicit LatentLayer(index_t heads)
      : LatentLayer({.width = 32, .heads = heads, .rank = 512, .rope_width = 64, .plain_width = 128,
                     .value_width = 128, .query_rank = {}},
                    Matrix(heads * 256, 512, 1)) {}

 private:
  LatentLayer(const LatentSizes& s, const Matrix& up)
      : sizes(s),
        projection({.query_down = {},
                    .query_norm = {},
                    .query_up = Matrix(s.heads * s.key_width(), s.width, 2).linear(),
                    .latent_down = Matrix(s.row_width(), s.width, 3).linear(),
                    .latent_norm = Tensor<1>(Shape<1>{s.rank}, 1.0f),
                    .latent_up = up.linear(),
                    .output = Matrix(s.width, s.heads * s.value_width, 4).linear()},
                   s, Rope{std::vector<float>(s.rope_width / 2, 0.1f)}, 1.0f),
        absorption(up.view(), s) {}
};

/// What the last T of S tokens have: their queries, and the latents of all.
struct Tokens {
  Tensor<3> queries;  // (T,H,D)
  Tensor<2> latents;  // (S,R+P)
};

Tokens tokens(const LatentLayer& layer, index_t T, index_t S) {
  return {split_heads(normal_rows(T, layer.sizes.heads * layer.sizes.key_width(), 5), layer.sizes.heads),
          normal_rows(S, layer.sizes.row_width(), 6)};
}

Tensor<3> absorbed(const LatentLayer& layer, const Tokens& tokens) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(layer.sizes.key_width()));
  return layer.absorption.lift(attend_latents(layer.absorption.absorb(tokens.queries), tokens.latents,
                                              tokens.latents.shape(0), layer.sizes.rank, scale));
}

Tensor<3> expanded(const LatentLayer& layer, const Tokens& tokens) {
  const auto [keys, values] = layer.projection.expand(tokens.latents);
  return attend(tokens.queries, keys, values, tokens.latents.shape(0));
}

/// Microseconds of one call.
template <class Function>
double time_of(Function function) {
  const Stopwatch watch;
  function();
  return 1000 * watch.milliseconds();
}

struct Medians {
  double naive, absorbed, decompressed;
};

/// One decode step after S-1 tokens, from the query to the heads' outputs, in turns.
Medians time_step(const LatentLayer& layer, const LatentProjection::Expanded& cached, index_t S) {
  const Tokens all = tokens(layer, 1, S);
  const Tensor<2> last = rows(all.latents, S - 1, 1);
  std::vector<double> naive, in_latents, decompressed;
  for (index_t i = 0; i < 15; ++i) {
    naive.push_back(time_of([&] {
      layer.projection.expand(last);  // of the new token
      attend(all.queries, cached.keys, cached.values, S);
    }));
    in_latents.push_back(time_of([&] { absorbed(layer, all); }));
    if (i < 3) decompressed.push_back(time_of([&] { expanded(layer, all); }));
  }
  return {median(naive), median(in_latents), median(decompressed)};
}

std::string times_text(double ratio) { return "x " + decimal(ratio, 2); }

void measure_decode(Report& report) {
  MarkdownTable table{{"heads", "context", "naive, us", "absorbed, us", "decompressed, us", "naive / absorbed"}};
  Plot plot{.title = "One decode step of attention, 16 heads", .x_label = "tokens of context", .y_label = "microseconds",
            .series = {{"naive", {}}, {"absorbed", {}}, {"decompressed", {}}}, .y_scale = Scale::logarithmic};
  std::vector<JsonObject> numbers;
  for (const index_t heads : {4, 16, 64}) {
    const LatentLayer layer(heads);
    const LatentProjection::Expanded cached = layer.projection.expand(tokens(layer, 1, longest).latents);
    for (const index_t S : {16, 64, 256, 1024, 2048, 4096}) {
      const Medians times = time_step(layer, cached, S);
      table.push_back({grouped(heads), grouped(S), decimal(times.naive, 0), decimal(times.absorbed, 0),
                       decimal(times.decompressed, 0), times_text(times.naive / times.absorbed)});
      JsonObject row;
      row.set("heads", heads).set("context", S).set("naive_us", times.naive).set("absorbed_us", times.absorbed)
          .set("decompressed_us", times.decompressed);
      numbers.push_back(row);
      if (heads != 16) continue;
      plot.series[0].points.push_back({static_cast<double>(S), times.naive});
      plot.series[1].points.push_back({static_cast<double>(S), times.absorbed});
      plot.series[2].points.push_back({static_cast<double>(S), times.decompressed});
    }
  }
  report.with_model("No checkpoint").table("latent_decode", table,
               "One decode step (T = 1) of one layer with DeepSeek's head sizes (R 512, P 64, D 192, W 128) and random weights in bf16, the cache in "
               "f32, from the query to the heads' outputs; medians of 15, decompressed of 3. Above x 1 absorbed is faster, below "
               "naive.");
  report.figure("latent_decode", plot);
  report.numbers("latent_decode", numbers);
}

void measure_prefill(Report& report) {
  constexpr index_t S = 2048;
  const LatentLayer layer(16);
  MarkdownTable table{{"new tokens T", "expanded, ms", "absorbed, ms", "expanded, GFLOP", "absorbed, GFLOP", "the rule takes",
                       "faster"}};
  std::vector<JsonObject> numbers;
  for (const index_t T : {1, 16, 64, 128, 192, 256, 512, 2048}) {
    const Tokens all = tokens(layer, T, S);
    std::vector<double> in_full, in_latents;
    for (index_t i = 0; i < 3; ++i) {
      in_full.push_back(time_of([&] { expanded(layer, all); }) / 1000);
      in_latents.push_back(time_of([&] { absorbed(layer, all); }) / 1000);
    }
    const double expanded_flop = decompressed_cost(layer.sizes, T, S).flop(), absorbed_flop = absorbed_cost(layer.sizes, T, S).flop();
    table.push_back({grouped(T), decimal(median(in_full), 1), decimal(median(in_latents), 1), decimal(expanded_flop / 1e9, 2),
                     decimal(absorbed_flop / 1e9, 2), expanding_is_cheaper(layer.sizes, T, S) ? "expanded" : "absorbed",
                     median(in_full) < median(in_latents) ? "expanded" : "absorbed"});
    JsonObject row;
    row.set("new_tokens", T).set("stored", S).set("expanded_ms", median(in_full)).set("absorbed_ms", median(in_latents))
        .set("expanded_flop", expanded_flop).set("absorbed_flop", absorbed_flop);
    numbers.push_back(row);
  }
  report.with_model("No checkpoint").table("latent_prefill", table,
               "The last T of 2,048 tokens, one layer with 16 heads of DeepSeek's sizes, otherwise as above; medians of 3.");
  report.numbers("latent_prefill", numbers);
}

/// A key that is made from the latent and then turned, in whole: what the absorbed query would have to be.
void measure_decoupling(Report& report) {
  MarkdownTable table{{"distance of query and key", "absorbed past the rotation", "absorbed at distance 8", "not rotated (decoupled)"}};
  std::vector<JsonObject> numbers;
  for (const index_t distance : {0, 1, 2, 8, 64, 512, 4096}) {
    const auto [past_rotation, at_distance_8, decoupled] = decoupling_errors(distance);
    const auto text = [](double error) { return error < 1e-4 ? "rounding" : decimal(error, 2); };
    table.push_back({grouped(distance), text(past_rotation), text(at_distance_8), text(decoupled)});
    JsonObject row;
    row.set("distance", distance).set("past_rotation", past_rotation).set("at_distance_8", at_distance_8).set("decoupled", decoupled);
    numbers.push_back(row);
  }
  report.with_model("No checkpoint, no timing").table("decoupling", table,
               "Largest error of the scores of one query with 64 keys, relative to the largest score. Random query, latents and W_UK, "
               "D 128, R 512, theta 10,000. \"Rounding\": below 1e-4.");
  report.numbers("decoupling", numbers);
}

void measure_bytes(Report& report) {
  Plot plot{.title = "Cache of DeepSeek-V2-Lite in every layout, bf16", .x_label = "tokens stored", .y_label = "gigabytes", .series = {}};
  const Json config = Json::read(std::filesystem::path(KV_DATA) / "configs/deepseek-v2-lite/config.json");
  for (const Layout& layout : layouts(config)) {
    Series series{layout.name, {}};
    for (index_t S = 0; S <= 131072; S += 16384)
      series.points.push_back({static_cast<double>(S), static_cast<double>(S * bytes_per_token(layout, model_sizes(config).layers, 2)) / 1e9});
    plot.series.push_back(series);
  }
  report.figure("latent_bytes", plot);
}

void measure_published(Report& report) {
  MarkdownTable bytes{{"bytes per token, all layers, bf16", "V2-Lite", "V2", "V3"}};
  MarkdownTable costs{{"one decode step of a layer at 1,024 tokens", "V2-Lite", "V2, V3"}};
  std::vector<std::vector<Layout>> all;
  std::vector<index_t> layers;
  std::vector<LatentSizes> sizes;
  for (const char* name : {"deepseek-v2-lite", "deepseek-v2", "deepseek-v3"}) {
    const Json config = Json::read(std::filesystem::path(KV_DATA) / "configs" / name / "config.json");
    all.push_back(layouts(config));
    layers.push_back(model_sizes(config).layers);
    sizes.push_back(latent_config(config).sizes);
  }
  for (index_t i = 0; i < all[0].size(); ++i) {
    const std::string name = all[0][i].name;
    bytes.push_back({name.substr(0, name.find(" (")), grouped(bytes_per_token(all[0][i], layers[0], 2)),
                     grouped(bytes_per_token(all[1][i], layers[1], 2)), grouped(bytes_per_token(all[2][i], layers[2], 2))});
  }
  const Report counted = report.with_model("No checkpoint, no timing");
  counted.table("latent_layouts", bytes, "From data/configs by kvbook inspect's rule.");

  using Form = Cost (*)(const LatentSizes&, index_t, index_t);
  const auto add = [&](const std::string& text, Form form, auto value) {
    costs.push_back({text, value(form(sizes[0], 1, 1024)), value(form(sizes[2], 1, 1024))});
  };
  const auto mflop = [](double flop) { return decimal(flop / 1e6, 1); };
  for (const auto& [name, form] : {std::pair<std::string, Form>{"naive", naive_cost}, {"decompressed", decompressed_cost},
                                   {"absorbed", absorbed_cost}}) {
    add(name + ": MFLOP with W_UK, W_UV", form, [&](const Cost& cost) { return mflop(cost.up_projection); });
    add(name + ": MFLOP of attention", form, [&](const Cost& cost) { return mflop(cost.attention); });
    add(name + ": MB of cache read, bf16", form, [&](const Cost& cost) { return decimal(cost.cache_values * 2 / 1e6, 2); });
    add(name + ": FLOP of attention per byte of cache", form, [](const Cost& cost) { return decimal(cost.intensity(2), 1); });
  }
  counted.table("latent_costs", costs, "Counted by chapters/04_latent_cache/cost.cpp.");
}

}  // namespace

void measure_latent(const Laboratory&, Report& report) {
  measure_published(report);
  measure_bytes(report);
  measure_decoupling(report);
  measure_decode(report);
  measure_prefill(report);
}

}  // namespace kv::book
