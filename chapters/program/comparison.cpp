#include "chapters/program/comparison.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "common/files/error.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

bool same_tokens(const StageRun& run, const StageRun& reference) {
  const index_t count = std::min(run.asked, reference.tokens.size());
  return run.tokens.size() == count && std::equal(run.tokens.begin(), run.tokens.end(), reference.tokens.begin());
}

}  // namespace

std::vector<StageRun> run_stages(const Checkpoint& checkpoint, const std::vector<Stage>& stages,
                                 const std::vector<Token>& prompt, const std::function<index_t(const Stage&)>& max_new_tokens,
                                 const std::function<void(Token)>& on_token) {
  std::vector<StageRun> runs;
  for (const Stage& stage : stages) {
    StageRun run{.stage = stage, .asked = max_new_tokens(stage), .tokens = {}, .logits = {}, .metrics = {}};
    const index_t capacity = require_context(checkpoint, prompt.size() + run.asked - 1);
    Decoder decoder = load_decoder(checkpoint, stage, {.sequences = 1, .capacity = capacity});
    GenerateOptions options{.max_new_tokens = run.asked, .sampling = {}, .stop = stop_tokens(checkpoint)};
    options.on_logits = [&](index_t, std::span<const float> logits) {
      run.logits.insert(run.logits.end(), logits.begin(), logits.end());
    };
    if (runs.empty())
      options.on_token = [&](index_t, Token token) { on_token(token); };
    else
      options.on_token = [&, produced = index_t{0}](index_t, Token) mutable {
        show_progress(std::string(stage.name) + ": token " + std::to_string(++produced));
      };
    Generation generation = generate(decoder, {{0, prompt}}, options);
    clear_progress();
    run.tokens = std::move(generation.tokens[0]);
    run.metrics = generation.metrics;
    runs.push_back(std::move(run));
  }
  return runs;
}

Difference difference(const StageRun& run, const StageRun& reference) {
  Difference result{.same_tokens = same_tokens(run, reference), .different_logits = 0, .largest = 0.0, .holds = false};
  double top = 0.0, largest = 0.0;
  const index_t count = std::min(run.logits.size(), reference.logits.size());
  for (index_t i = 0; i < count; ++i) {
    if (std::bit_cast<std::uint32_t>(run.logits[i]) != std::bit_cast<std::uint32_t>(reference.logits[i]))
      ++result.different_logits;
    top = std::max(top, std::abs(static_cast<double>(reference.logits[i])));
    largest = std::max(largest, std::abs(static_cast<double>(run.logits[i]) - reference.logits[i]));
  }
  result.largest = top > 0.0 ? largest / top : largest;
  const double tolerance = run.stage.equality.tolerance;
  result.holds = result.same_tokens && (tolerance == 0.0 ? result.different_logits == 0 : result.largest <= tolerance);
  return result;
}

namespace {

std::string equality_text(const Difference& found) {
  if (!found.same_tokens) return "OTHER TEXT";
  if (found.different_logits == 0) return "equal bits";
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "within %.1e", found.largest);
  return buffer;
}

}  // namespace

std::string comparison_table(const std::vector<StageRun>& runs) {
  Table table({"stage", "chapter", "TTFT ms", "TPOT ms", "decode tokens/s", "state bytes", "bytes/token", "logits"});
  for (const StageRun& run : runs)
    table.add({std::string(run.stage.name), std::to_string(run.stage.chapter), decimal(run.metrics.ttft_ms(), 2),
               decimal(run.metrics.tpot_ms(), 3), decimal(run.metrics.decode_tokens_per_s(), 0),
               grouped(run.metrics.state_bytes), decimal(run.metrics.state_bytes_per_token(), 0),
               &run == &runs.front() ? "reference" : equality_text(difference(run, runs.front()))});
  return table.text();
}

std::vector<JsonObject> comparison_json(const std::vector<StageRun>& runs) {
  std::vector<JsonObject> list;
  for (const StageRun& run : runs) {
    const Difference found = difference(run, runs.front());
    JsonObject object;
    object.set("stage", run.stage.name)
        .set("same_tokens", found.same_tokens)
        .set("different_logits", found.different_logits)
        .set("largest_relative_difference", found.largest)
        .set("promise_holds", found.holds);
    run.metrics.write(object);
    list.push_back(std::move(object));
  }
  return list;
}

void require_promises(const std::vector<StageRun>& runs) {
  for (const StageRun& run : runs)
    if (!difference(run, runs.front()).holds)
      throw Error("stage '" + std::string(run.stage.name) + "' does not give what it promises next to '" +
                  std::string(runs.front().stage.name) + "': this is a defect of the program");
}

}  // namespace kv
