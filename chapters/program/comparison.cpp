#include "chapters/program/comparison.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "chapters/studies/rounded_heads.hpp"
#include "common/files/error.hpp"
#include "common/model/loss.hpp"
#include "common/tensor/input_format.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

bool same_tokens(const StageRun& run, const StageRun& reference) {
  const index_t count = std::min(run.asked, reference.tokens.size());
  return run.tokens.size() == count && std::equal(run.tokens.begin(), run.tokens.end(), reference.tokens.begin());
}

bool all_finite(const std::vector<float>& values) {
  return std::ranges::all_of(values, [](float x) { return std::isfinite(x); });
}

/// Mean loss of the first `count` tokens.  @param logits (count,V)
double loss(const std::vector<float>& logits, const std::vector<Token>& tokens, index_t count) {
  if (count == 0 || !all_finite(logits)) return 0.0;
  const index_t V = logits.size() / count;
  Loss total;
  for (index_t t = 0; t < count; ++t)
    total += {1, negative_log_likelihood(std::span(logits).subspan(t * V, V), tokens[t])};
  return total.mean();
}

/// The logits before each of the tokens when they follow the prompt, one step for each.
std::vector<float> forced_logits(Decoder& decoder, const std::vector<Token>& prompt, const std::vector<Token>& tokens) {
  std::vector<float> logits;
  decoder.truncate(0, 0);
  std::vector<Token> next = prompt;
  for (const Token token : tokens) {
    const Tensor<2> step = decoder.last_logits({{0, next}});
    if (logits.empty()) decoder.prompt_ends(0);
    logits.insert(logits.end(), step.begin(), step.end());
    next = {token};
  }
  return logits;
}

/// By how much two runs differ after the same tokens, relative to the largest logit.
double largest_difference(const std::vector<float>& found, const std::vector<float>& expected) {
  double top = 0.0, largest = 0.0;
  const index_t count = std::min(found.size(), expected.size());
  for (index_t i = 0; i < count; ++i) {
    top = std::max(top, std::abs(static_cast<double>(expected[i])));
    largest = std::max(largest, std::abs(static_cast<double>(found[i]) - expected[i]));
  }
  return top > 0.0 ? largest / top : largest;
}

/// Gives every run the bound of its promise. Two stages that promise something next to a third may differ by both together.
void set_bounds(const Checkpoint& checkpoint, const std::vector<Token>& prompt, std::vector<StageRun>& runs) {
  // Where inputs are rounded, a last bit of attention's may become a last bit of a shorter number.
  const bool inputs_rounded = rounds(input_format());
  const auto needs_trial = [=](const StageRun& run) {
    return run.stage.equality.other_sums || (inputs_rounded && run.stage.equality.tolerance > 0.0);
  };
  double tried = 0.0;
  if (std::ranges::any_of(runs, needs_trial)) {
    const StageRun& reference = runs.front();
    const Limits limits{.sequences = 1, .capacity = prompt.size() + std::max<index_t>(1, reference.tokens.size())};
    Decoder rounded = make_decoder(checkpoint, on_rounded_heads(checkpoint.config()), limits);
    tried = rounding_margin * largest_difference(forced_logits(rounded, prompt, reference.tokens), reference.logits);
  }
  const auto own = [&](const StageRun& run) { return needs_trial(run) ? tried : run.stage.equality.tolerance; };
  for (StageRun& run : runs) run.bound = own(run) + (&run == &runs.front() ? 0.0 : own(runs.front()));
}

}  // namespace

std::vector<StageRun> run_stages(const Checkpoint& checkpoint, const std::vector<Stage>& stages,
                                 const std::vector<Token>& prompt, const std::function<index_t(const Stage&)>& max_new_tokens,
                                 const std::function<void(Token)>& on_token) {
  std::vector<StageRun> runs;
  for (const Stage& stage : stages) {
    StageRun run{.stage = stage, .asked = max_new_tokens(stage), .tokens = {}, .logits = {}, .forced = {}, .metrics = {}};
    const index_t capacity = require_context(checkpoint, stage, prompt.size() + run.asked - 1);
    Decoder decoder = load_decoder(checkpoint, stage, {.sequences = 1, .capacity = capacity});
    GenerateOptions options{.max_new_tokens = run.asked, .sampling = {}, .stop = stop_tokens(checkpoint.directory())};
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
    if (!runs.empty() && !same_tokens(run, runs.front())) {
      std::vector<Token> tokens = runs.front().tokens;
      tokens.resize(std::min(tokens.size(), run.asked));
      run.forced = forced_logits(decoder, prompt, tokens);
    }
    runs.push_back(std::move(run));
  }
  set_bounds(checkpoint, prompt, runs);
  return runs;
}

Difference difference(const StageRun& run, const StageRun& reference) {
  const std::vector<float>& found = run.forced.empty() ? run.logits : run.forced;
  const std::vector<float>& expected = reference.logits;
  const index_t steps = std::min(run.asked, reference.tokens.size());
  Difference result{.lossy = run.stage.equality.lossy || reference.stage.equality.lossy,
                    .same_tokens = same_tokens(run, reference),
                    .first_other_token = static_cast<index_t>(
                        std::ranges::mismatch(run.tokens, reference.tokens).in1 - run.tokens.begin()),
                    .different_logits = 0,
                    .largest = 0.0,
                    .loss = 0.0,
                    .reference_loss = 0.0,
                    .holds = false};
  for (index_t i = 0; i < std::min(found.size(), expected.size()); ++i)
    if (std::bit_cast<std::uint32_t>(found[i]) != std::bit_cast<std::uint32_t>(expected[i])) ++result.different_logits;
  result.largest = largest_difference(found, expected);
  if (result.lossy) {
    result.loss = loss(found, reference.tokens, steps);
    const index_t V = reference.tokens.empty() ? 0 : expected.size() / reference.tokens.size();
    result.reference_loss = loss({expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(steps * V)},
                                 reference.tokens, steps);
    result.holds = all_finite(found);
  } else {
    result.holds = run.bound == 0.0 ? result.same_tokens && result.different_logits == 0
                                    : all_finite(found) && result.largest <= run.bound;
  }
  return result;
}

namespace {

std::string equality_text(const StageRun& run, const Difference& found) {
  const auto text = [&] { return found.same_tokens ? "same text" : "other text from token " + std::to_string(found.first_other_token + 1); };
  if (found.same_tokens && found.different_logits == 0) return "equal bits";
  char buffer[96];
  if (found.lossy) {
    const double more = found.loss - found.reference_loss;
    std::snprintf(buffer, sizeof buffer, "off by %.1e, loss %+.4f, ", found.largest, std::abs(more) < 5e-5 ? 0.0 : more);
    return buffer + text();
  }
  if (!found.holds) {
    std::snprintf(buffer, sizeof buffer, "OFF by %.1e, bound %.1e, ", found.largest, run.bound);
    return buffer + text();
  }
  std::snprintf(buffer, sizeof buffer, "within %.1e", found.largest);
  return found.same_tokens ? buffer : buffer + std::string(", nearly a tie at token ") + std::to_string(found.first_other_token + 1);
}

}  // namespace

std::string comparison_table(const std::vector<StageRun>& runs) {
  Table table({"stage", "chapter", "TTFT ms", "TPOT ms", "decode tokens/s", "state bytes", "bytes/token", "logits"});
  for (const StageRun& run : runs)
    table.add({std::string(run.stage.name), std::to_string(run.stage.chapter), decimal(run.metrics.ttft_ms(), 2),
               decimal(run.metrics.tpot_ms(), 3), decimal(run.metrics.decode_tokens_per_s(), 0),
               grouped(run.metrics.state_bytes.allocated), decimal(run.metrics.state_bytes_per_token(), 0),
               &run == &runs.front() ? "reference" : equality_text(run, difference(run, runs.front()))});
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
        .set("bound", run.bound)
        .set("promise_holds", found.holds);
    if (found.lossy)
      object.set("first_other_token", found.first_other_token)
          .set("loss", found.loss)
          .set("reference_loss", found.reference_loss);
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
