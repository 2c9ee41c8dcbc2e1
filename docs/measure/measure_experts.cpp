#include <fstream>
#include <numeric>
#include <random>

#include "chapters/05_mixture_of_experts/balance.hpp"
#include "chapters/05_mixture_of_experts/softmax_routers.hpp"
#include "common/text/table.hpp"
#include "chapters/studies/expert_usage.hpp"
#include "chapters/models/mixture_config.hpp"
#include "common/model/metrics.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

// ---- sizes, from config.json alone ----

std::string billions(index_t parameters) { return decimal(static_cast<double>(parameters) / 1e9, parameters < 100000000 ? 4 : 2); }

void report_sizes(const std::filesystem::path& data, const Report& report) {
  MarkdownTable table{{"model", "mixture layers", "experts, chosen + shared", "feed-forward parameters, 10⁹", "used by a token, 10⁹", "share",
                       "GFLOP per token", "GB read per token, batch 1, bf16"}};
  for (const char* name : {"configs/mixtral-8x7b", "configs/qwen3-30b-a3b", "configs/deepseek-v2-lite", "configs/deepseek-v2", "configs/deepseek-v3", "tiny-mla"}) {
    const Json config = Json::read(data / name / "config.json");
    const FeedForwardCost cost = feed_forward_cost(config);
    const auto [E, K, F, shared_width] = mixture_sizes(config);
    const double active = static_cast<double>(cost.active_parameters);
    table.push_back({std::filesystem::path(name).filename().string(), std::to_string(cost.mixture_layers) + " of " + std::to_string(cost.layers),
                     std::to_string(E) + ", " + std::to_string(K) + " + " + std::to_string(shared_width / F), billions(cost.parameters),
                     billions(cost.active_parameters), decimal(100.0 * active / static_cast<double>(cost.parameters), 1) + "%",
                     decimal(2e-9 * active, active < 1e8 ? 4 : 2), decimal(2e-9 * active, active < 1e8 ? 4 : 2)});
  }
  report.with_model("Feed-forward halves only, counted from config.json").table("expert_sizes", table, "Multiplication and addition count as one FLOP each.");
}

// ---- experts read by a batch ----

std::string text_of(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::vector<Token> held_out(const std::filesystem::path& data, const Tokenizer& tokenizer, const std::string& kind) {
  std::vector<Token> tokens = tokenizer.encode(text_of(data / "held_out" / (kind + ".txt")));
  tokens.resize(std::min<index_t>(tokens.size(), 512));
  return tokens;
}

/// All kinds of text, one behind the other: a server's batch is mixed.
LayerRoutings mixed_routings(const Checkpoint& checkpoint, const std::filesystem::path& data, const Tokenizer& tokenizer) {
  LayerRoutings all;
  for (const char* kind : {"story", "chat", "needle", "list", "copy"})
    for (const auto& [layer, routing] : expert_usage(checkpoint, held_out(data, tokenizer, kind)).routings)
      all[layer].insert(all[layer].end(), routing.begin(), routing.end());
  return all;
}

void report_distinct(const Checkpoint& checkpoint, const LayerRoutings& routings, Report& report, const Report& mla) {
  const MixtureSizes sizes = mixture_sizes(checkpoint.config());
  Plot plot{.title = "Experts that one layer reads for a batch", .x_label = "tokens in the batch", .y_label = "different experts", .series = {{"measured", {}}, {"all equally likely", {}}}};
  std::vector<JsonObject> rows;
  for (const index_t batch : {1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64}) {
    double distinct = 0;
    for (const auto& [layer, routing] : routings) distinct += distinct_experts(routing, batch) / static_cast<double>(routings.size());
    const double even = even_distinct_experts(sizes.experts, sizes.chosen, batch);
    plot.series[0].points.push_back({static_cast<double>(batch), distinct});
    plot.series[1].points.push_back({static_cast<double>(batch), even});
    rows.push_back(JsonObject().set("batch", batch).set("experts", distinct).set("even", even));
  }
  mla.figure("expert_batch", plot);
  report.numbers("expert_batch", rows);
}

// ---- time over batch size ----

std::shared_ptr<const Linear> random_linear(index_t outputs, index_t inputs, std::mt19937& generator) {
  std::vector<std::uint16_t> weights(outputs * inputs);
  for (std::uint16_t& weight : weights) weight = to_bf16(static_cast<float>(generator() % 2001) * 5e-5f - 0.05f);
  return std::make_shared<Linear>(MatrixView{weights.data(), DType::bf16, outputs, inputs, inputs, 1});
}

std::shared_ptr<const FeedForward> random_dense(index_t width, index_t F, std::mt19937& generator) {
  const auto gate = random_linear(F, width, generator), up = random_linear(F, width, generator), down = random_linear(width, F, generator);
  return std::make_shared<DenseFeedForward>(gate, up, down);
}

/// DeepSeek-V2-Lite's mixture with half the width and a quarter of the experts' width.
constexpr index_t M = 1024, E = 64, K = 6, F = 352, shared_width = 2 * F;

MixtureParts random_mixture(std::mt19937& generator) {
  const auto pool = std::make_shared<ExpertPool>(E, [](index_t e) {
    std::mt19937 own(static_cast<unsigned>(e + 10));
    return random_dense(M, F, own);
  });
  for (index_t e = 0; e < E; ++e) pool->expert(e);  // loading is not what is timed
  return {.gate = random_linear(E, M, generator), .router = std::make_shared<GreedyRouter>(E, K, 1.0f), .experts = pool, .shared = random_dense(M, shared_width, generator)};
}

Tensor<2> random_rows(index_t N, std::mt19937& generator) {
  Tensor<2> x = empty<2>({N, M});
  for (float& value : x) value = static_cast<float>(generator() % 2001) * 1e-3f - 1.0f;
  return x;
}

double time_of(const FeedForward& feed_forward, const Tensor<2>& x) {
  const Stopwatch watch;
  feed_forward.forward(x);
  return watch.milliseconds();
}

void report_time(Report& report) {
  std::mt19937 generator(1);
  const MixtureParts parts = random_mixture(generator);
  const Mixture grouped_mixture(parts);
  const DenseMixture naive(parts);
  const auto active = random_dense(M, K * F + shared_width, generator);  // as many parameters as a token uses
  MarkdownTable table{{"tokens in the batch", "experts read", "mixture, us per token", "dense of the active size, us per token", "mixture / dense", "every expert on every token, us per token"}};
  std::vector<JsonObject> rows;
  for (const index_t batch : {1, 2, 4, 8, 16, 32, 64, 128, 256}) {
    const Tensor<2> x = random_rows(batch, generator);
    const Routing routing = parts.router->route((*parts.gate)(x));
    std::vector<double> mixture_ms, dense_ms, naive_ms;
    for (int round = 0; round < 15; ++round) {
      mixture_ms.push_back(time_of(grouped_mixture, x));
      dense_ms.push_back(time_of(*active, x));
      if (round % 5 == 0) naive_ms.push_back(time_of(naive, x));
    }
    const double experts = distinct_experts(routing, batch), tokens = static_cast<double>(batch);
    const double mixture_us = 1000 * median(mixture_ms) / tokens, dense_us = 1000 * median(dense_ms) / tokens, naive_us = 1000 * median(naive_ms) / tokens;
    table.push_back({std::to_string(batch), decimal(experts, 0), decimal(mixture_us, 0), decimal(dense_us, 0), decimal(mixture_us / dense_us, 1), decimal(naive_us, 0)});
    rows.push_back(JsonObject().set("batch", batch).set("experts", experts).set("mixture_us", mixture_us).set("dense_us", dense_us).set("naive_us", naive_us));
  }
  report.with_model("One layer: M 1024, 6 of 64 experts with F 352, shared F 704, random weights in bf16")
      .table("expert_time", table, "Medians of 15 rounds (3 for the last column) in which the columns took turns; random tokens.");
  report.numbers("expert_time", rows);
}

// ---- balance ----

void report_balance(Report& report) {
  BalanceTrial trial;
  const std::vector<double> with = simulate_balance(trial);
  trial.speed = 0.0f;
  const std::vector<double> without = simulate_balance(trial);
  Plot plot{.title = "A router alone: how far the busiest expert is above the mean", .x_label = "step", .y_label = "largest violation", .series = {{"without bias", {}}, {"with bias, 0.005 a step", {}}}};
  for (index_t step = 0; step < with.size(); step += 5) {
    plot.series[0].points.push_back({static_cast<double>(step), without[step]});
    plot.series[1].points.push_back({static_cast<double>(step), with[step]});
  }
  report.figure("expert_balance", plot);
}

// ---- ablation ----

void report_ablation(const Checkpoint& checkpoint, const std::vector<Token>& tokens, Report& report, const Report& mla) {
  const ExpertUsage usage = expert_usage(checkpoint, tokens);
  const double loss = usage.loss;
  std::map<index_t, std::vector<double>> added;
  std::vector<JsonObject> rows;
  for (const Ablation& ablation : ablate_experts(checkpoint, tokens)) {
    added[ablation.layer].push_back(ablation.loss - loss);
    rows.push_back(JsonObject().set("layer", ablation.layer).set("expert", ablation.expert).set("loss_added", ablation.loss - loss));
  }
  MarkdownTable table{{"layer", "costliest expert", "loss added", "its load", "second", "loss added", "its load", "median of all", "busiest expert", "loss added"}};
  for (const auto& [layer, increases] : added) {
    std::vector<index_t> order(increases.size());
    for (index_t e = 0; e < order.size(); ++e) order[e] = e;
    std::ranges::stable_sort(order, std::greater(), [&](index_t e) { return increases[e]; });
    const std::vector<index_t> loads = expert_loads(usage.routings.at(layer), increases.size());
    const auto busiest = static_cast<index_t>(std::ranges::max_element(loads) - loads.begin());
    const auto load = [&](index_t e) {  // in even shares
      return decimal(static_cast<double>(loads[e] * loads.size()) / static_cast<double>(std::accumulate(loads.begin(), loads.end(), index_t{0})), 2);
    };
    table.push_back({std::to_string(layer), std::to_string(order[0]), decimal(increases[order[0]], 3), load(order[0]), std::to_string(order[1]),
                     decimal(increases[order[1]], 3), load(order[1]), decimal(median(increases), 3), std::to_string(busiest), decimal(increases[busiest], 3)});
  }
  mla.table("expert_ablation", table,
            "Mean loss per token on a held-out story of " + std::to_string(tokens.size()) + " tokens, in nats; with all experts " + decimal(loss, 3) + ". Load: 1 is an even share.");
  report.numbers("expert_ablation", rows);
}

}  // namespace

void measure_experts(const Laboratory& laboratory, Report& report) {
  const std::filesystem::path data = laboratory.checkpoint().directory().parent_path();
  const Checkpoint checkpoint(data / "tiny-mla");
  const Tokenizer tokenizer(checkpoint.directory() / "tokenizer.json");
  const Report mla = report.with_model("tiny-mla: 4 mixture layers, 4 of 16 experts and a shared one, weights in bf16");
  report_sizes(data, report);
  report_distinct(checkpoint, mixed_routings(checkpoint, data, tokenizer), report, mla);
  report_ablation(checkpoint, held_out(data, tokenizer, "story"), report, mla);
  report_balance(report);
  report_time(report);
}

}  // namespace kv::book
