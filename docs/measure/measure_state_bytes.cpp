#include "docs/measure/measurements.hpp"

namespace kv::book {

void measure_state_bytes(const Laboratory& laboratory, Report& report) {
  constexpr index_t step = 64;
  const std::vector<Token> text = laboratory.tokens(laboratory.context());
  Plot plot{.title = "Bytes kept for one sequence", .x_label = "tokens stored", .y_label = "kilobytes", .series = {}};
  std::vector<JsonObject> rows;
  for (const std::string& stage : first_stages) {
    Decoder decoder = laboratory.decoder(stage);
    Series series{stage, {{0, static_cast<double>(decoder.state_bytes().allocated) / 1000}}};
    for (auto next = text.begin(); next != text.end(); next += step) {
      if (stage != "uncached") decoder.last_logits({{0, {next, next + step}}});  // uncached keeps nothing at any length
      const auto tokens = static_cast<index_t>(next - text.begin()) + step;
      series.points.push_back({static_cast<double>(tokens), static_cast<double>(decoder.state_bytes().allocated) / 1000});
      JsonObject row;
      row.set("stage", stage).set("tokens", tokens).set("state_bytes", decoder.state_bytes().allocated);
      rows.push_back(row);
    }
    plot.series.push_back(series);
  }
  report.figure("state_bytes", plot);
  report.numbers("state_bytes", rows);
}

}  // namespace kv::book
