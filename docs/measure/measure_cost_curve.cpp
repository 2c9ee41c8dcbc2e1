#include <map>

#include "common/text/table.hpp"
#include "common/model/metrics.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

constexpr index_t rounds = 7;

/// Tokens before the new one, longest first: a decoder is cut back from one to the next.
std::vector<index_t> contexts(index_t longest) {
  std::vector<index_t> result;
  for (index_t S = longest / 64 * 64; S > 0; S -= 64) result.push_back(S - 1);
  result.push_back(31);
  result.push_back(15);
  result.push_back(0);
  return result;
}

/// Milliseconds for the next token; the decoder is left as it was.
double time_of_step(Decoder& decoder, Token token) {
  const index_t before = decoder.length(0);
  const Stopwatch watch;
  decoder.last_logits({{0, {token}}});
  const double time = watch.milliseconds();
  decoder.truncate(0, before);
  return time;
}

}  // namespace

void measure_cost_curve(const Laboratory& laboratory, Report& report) {
  const std::vector<index_t> all_contexts = contexts(laboratory.context());
  const std::vector<Token> text = laboratory.tokens(laboratory.context());
  std::map<std::string, std::map<index_t, std::vector<double>>> times;
  std::map<std::string, Decoder> decoders;
  for (const std::string& stage : first_stages) decoders.emplace(stage, laboratory.decoder(stage));
  for (index_t round = 0; round < rounds; ++round) {
    for (auto& [stage, decoder] : decoders) {
      decoder.truncate(0, 0);
      decoder.last_logits({{0, {text.begin(), text.begin() + static_cast<std::ptrdiff_t>(all_contexts.front())}}});
    }
    // Stages take turns at every length, so that what else the machine does hits them alike.
    for (const index_t S : all_contexts)
      for (auto& [stage, decoder] : decoders) {
        decoder.truncate(0, S);
        const index_t repeats = stage == "uncached" ? 1 : 5;
        for (index_t i = 0; i < repeats; ++i) times[stage][S].push_back(time_of_step(decoder, text[S]));
      }
  }

  Plot plot{.title = "One new token", .x_label = "tokens before it", .y_label = "milliseconds", .series = {}};
  MarkdownTable table{{"tokens before"}};
  for (const std::string& stage : first_stages) {
    table.front().push_back(stage + ", ms");
    plot.series.push_back({stage, {}});
    for (const auto& [S, measured] : times[stage])
      plot.series.back().points.push_back({static_cast<double>(S), median(measured)});
  }
  Plot cached{.title = "One new token, the stages with a cache alone", .x_label = plot.x_label, .y_label = plot.y_label,
              .series = {plot.series.begin() + 1, plot.series.end()}};
  table.front().push_back("uncached / preallocated");
  std::vector<JsonObject> rows;
  for (const auto& [S, unused] : times["uncached"]) {
    JsonObject row;
    row.set("tokens_before", S);
    for (const std::string& stage : first_stages) row.set(stage + "_ms", median(times[stage][S]));
    rows.push_back(row);
    if (S != 0 && S != 63 && S != 127 && S != 255 && S != 511 && S != all_contexts.front()) continue;
    std::vector<std::string> cells{std::to_string(S)};
    for (const std::string& stage : first_stages) cells.push_back(decimal(median(times[stage][S]), 3));
    cells.push_back(decimal(median(times["uncached"][S]) / median(times["preallocated"][S]), 1));
    table.push_back(cells);
  }
  report.figure("cost_curve", plot);
  report.figure("cost_curve_cached", cached);
  report.table("cost_curve", table,
               "Time for one decode step, medians of " + std::to_string(rounds) + " rounds in which the stages took turns.");
  report.numbers("cost_curve", rows);
}

}  // namespace kv::book
