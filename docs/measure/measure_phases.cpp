#include "common/text/table.hpp"
#include "common/model/metrics.hpp"
#include "docs/measure/measurements.hpp"

namespace kv::book {
namespace {

constexpr index_t rounds = 7, decoded = 32;

struct Phases {
  std::vector<double> prefill_ms, step_ms;
};

Phases time_phases(const Laboratory& laboratory, index_t prompt_tokens) {
  Decoder decoder = laboratory.decoder("preallocated");
  const std::vector<Token> text = laboratory.tokens(prompt_tokens + decoded);
  const auto end = text.begin() + static_cast<std::ptrdiff_t>(prompt_tokens);
  Phases phases;
  for (index_t round = 0; round < rounds; ++round) {
    decoder.truncate(0, 0);
    const Stopwatch prefill;
    decoder.last_logits({{0, {text.begin(), end}}});
    phases.prefill_ms.push_back(prefill.milliseconds());
    for (auto next = end; next != text.end(); ++next) {
      const Stopwatch step;
      decoder.last_logits({{0, {*next}}});
      phases.step_ms.push_back(step.milliseconds());
    }
  }
  return phases;
}

}  // namespace

void measure_phases(const Laboratory& laboratory, Report& report) {
  MarkdownTable table{{"prompt, tokens", "TTFT, ms", "prefill, tokens/s", "TPOT, ms", "decode, tokens/s", "prefill / decode"}};
  std::vector<JsonObject> rows;
  for (const index_t prompt : {index_t{32}, index_t{128}, index_t{512}, laboratory.context() - decoded}) {
    const Phases phases = time_phases(laboratory, prompt);
    const double ttft = median(phases.prefill_ms), tpot = median(phases.step_ms);
    const double prefill_rate = 1000 * static_cast<double>(prompt) / ttft, decode_rate = 1000 / tpot;
    table.push_back({grouped(prompt), decimal(ttft, 2), grouped(static_cast<std::size_t>(prefill_rate)), decimal(tpot, 3),
                     grouped(static_cast<std::size_t>(decode_rate)), decimal(prefill_rate / decode_rate, 1)});
    JsonObject row;
    row.set("prompt_tokens", prompt).set("ttft_ms", ttft).set("tpot_ms", tpot);
    rows.push_back(row);
  }
  report.table("phases", table, "Stage preallocated, one sequence, " + std::to_string(decoded) + " tokens decoded after the prompt, medians of " +
                                    std::to_string(rounds) + " rounds.");
  report.numbers("phases", rows);
}

}  // namespace kv::book
