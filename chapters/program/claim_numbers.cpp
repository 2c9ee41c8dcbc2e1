#include "chapters/program/claim_numbers.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <regex>

#include "chapters/05_mixture_of_experts/balance.hpp"
#include "chapters/models/cache_bytes.hpp"
#include "chapters/models/mixture_config.hpp"
#include "chapters/program/paged_session.hpp"
#include "chapters/program/shipped.hpp"
#include "chapters/studies/expert_usage.hpp"
#include "chapters/studies/loss_after_prompt.hpp"
#include "chapters/studies/memory_budget.hpp"
#include "chapters/studies/needle.hpp"
#include "chapters/studies/rank_cost.hpp"
#include "chapters/studies/traffic_trace.hpp"
#include "common/files/error.hpp"
#include "common/files/text_file.hpp"
#include "common/model/metrics.hpp"

namespace kv {
namespace {

constexpr index_t passages = 3, least_rounds = 9, most_rounds = 200;
constexpr std::string_view cached = "preallocated", uncached = "uncached";

std::vector<Token> held_out(const Path& model, const char* file, index_t count) {
  std::vector<Token> tokens = encode_prompt(model, open_tokenizer(model), read_text(shipped("held_out") / file));
  if (tokens.size() < count) throw Error(std::string(file) + ": has " + std::to_string(tokens.size()) + " tokens, too few");
  tokens.resize(count);
  return tokens;
}

std::vector<Token> part(const std::vector<Token>& tokens, index_t first, index_t count) {
  const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

Decoder decoder_of(const Path& model, std::string_view stage, index_t capacity, index_t sequences = 1) {
  return make_decoder(Checkpoint(model), find_stage(stage), {.sequences = sequences, .capacity = capacity});
}

double differences(const Tensor<2>& a, const Tensor<2>& b) {
  return static_cast<double>(std::inner_product(a.begin(), a.end(), b.begin(), index_t{0}, std::plus(), std::not_equal_to()));
}

/// Median milliseconds of each, which take turns: short ones for half a second, so that other work on the machine is not all that
/// is seen.
std::pair<double, double> in_turns(const std::function<void()>& one, const std::function<void()>& other) {
  std::vector<double> ones, others;
  const Stopwatch all;
  while (ones.size() < least_rounds || (ones.size() < most_rounds && all.milliseconds() < 500))
    for (const auto& [run, times] : {std::pair(&one, &ones), std::pair(&other, &others)}) {
      const Stopwatch watch;
      (*run)();
      times->push_back(watch.milliseconds());
    }
  return {median(ones), median(others)};
}

/// Feeds a prompt, then one token at each call. Every eighth call goes back to the prompt's end first: a median does not see it, and
/// the length stays what it is called.
std::function<void()> steps(const Path& model, std::string_view stage, index_t stored, index_t sequences = 1) {
  constexpr index_t most_new = 8;
  auto decoder = std::make_shared<Decoder>(decoder_of(model, stage, stored + most_new, sequences));
  std::vector<NewTokens> batch;
  for (index_t i = 0; i < sequences; ++i) batch.push_back({i, held_out(model, "stream.txt", stored)});
  decoder->last_logits(batch);
  for (NewTokens& each : batch) each.tokens.resize(1);
  return [=] {
    for (index_t i = 0; i < sequences; ++i)
      if (decoder->length(i) == stored + most_new) decoder->truncate(i, stored);
    decoder->last_logits(batch);
  };
}

double loss(const Path& model, Decoder decoder) {
  return loss_after_prompt(decoder, held_out(model, "stream.txt", passages * passage_tokens + 1), passages).loss;
}

std::string_view full_cache(const Path& model) { return family(config_of(model)) == Family::gqa ? cached : "absorbed"; }

Stage with_budget(std::string_view name, index_t budget) {
  Stage stage = find_stage(name);
  if (budget != 0) stage.options.set("budget", std::to_string(budget));
  return stage;
}

MemoryBudget in_bf16(const Json& config, const Limits& limits) { return memory_budget(config, "bf16", limits, {}, 512); }

}  // namespace

// ---- counted ----

Json config_of(const Path& model) { return Json::read(model / "config.json"); }

Json config_without(const Path& model, const std::string& field) {
  const Path file = model / "config.json";
  const std::regex value("(\"" + field + R"(":\s*)(\{[^}]*\}|[^,}\s]+))");
  return Json::parse(std::regex_replace(read_text(file), value, "$1null"), file.string());
}

double layout_values(const Path& model, std::string_view layout) {
  for (const Layout& each : layouts(config_of(model)))
    if (each.name.starts_with(layout)) return static_cast<double>(each.values_per_layer);
  throw Error(model.string() + ": has no layout " + std::string(layout));
}

double gigabytes(std::size_t bytes) { return static_cast<double>(bytes) / 1e9; }

double sequences_that_fit(const Path& model, index_t context, double memory_gb) {
  index_t count = 0;
  while (gigabytes(in_bf16(config_of(model), {count + 1, context}).total()) <= memory_gb) ++count;
  return static_cast<double>(count);
}

double sequences_for_share(const Path& model, index_t context, double share) {
  const MemoryBudget one = in_bf16(config_of(model), {1, context});
  return std::ceil(share / (1.0 - share) * static_cast<double>(one.weights) / static_cast<double>(one.cache));
}

double counted_speedup_on_gpu(const Path& model, index_t stored) {
  const DeviceRates h200{.memory_bytes_per_s = 4.3e12, .flop_per_s = 790e12, .link_bytes_per_s = 1.0, .seconds_per_exchange = 0.0};
  const auto seconds = [&](const RankStep& step) { return step_seconds(rank_cost(config_of(model), Cut::outputs, step), h200); };
  const RankStep with{.ranks = 1, .sequences = 1, .stored = stored, .cache_bytes = 2.0};
  const RankStep without{.ranks = 1, .sequences = stored, .stored = stored / 2, .cache_bytes = 0.0};  // every token sees half of them
  return seconds(without) / seconds(with);
}

// ---- equal bits ----

double differences_step_by_step(const Path& model, std::string_view stage) {
  constexpr index_t half = 32;
  const std::vector<Token> tokens = held_out(model, "story.txt", 2 * half);
  const Tensor<2> whole = decoder_of(model, uncached, 2 * half).logits(0, tokens);
  Decoder decoder = decoder_of(model, stage, 2 * half);
  decoder.last_logits({{0, part(tokens, 0, half)}});
  double count = 0.0;
  for (index_t t = half; t < 2 * half; ++t) count += differences(decoder.last_logits({{0, {tokens[t]}}}), rows(whole, t, 1));
  return count;
}

double differences_in_batch(const Path& model) {
  const std::vector<Token> text = held_out(model, "story.txt", 64);
  std::vector<NewTokens> batch;
  for (const index_t length : {5, 17, 40}) batch.push_back({batch.size(), part(text, 0, length)});
  Decoder together = decoder_of(model, cached, 64, batch.size());
  std::vector<Decoder> alone;
  for (index_t i = 0; i < batch.size(); ++i) alone.push_back(decoder_of(model, cached, 64));
  double count = 0.0;
  for (index_t step = 0; step < 8; ++step) {
    const Tensor<2> logits = together.last_logits(batch);
    for (NewTokens& each : batch) {
      count += differences(alone[each.sequence].last_logits({{0, each.tokens}}), rows(logits, each.sequence, 1));
      each.tokens = {text[step]};
    }
  }
  return count;
}

double differences_after_reset(const Path& model) {
  const std::vector<Token> story = held_out(model, "story.txt", 64), other = held_out(model, "list.txt", 64);
  Decoder used = decoder_of(model, "concat", 64), fresh = decoder_of(model, "concat", 64);
  used.last_logits({{0, other}});
  used.truncate(0, 0);
  return differences(used.logits(0, story), fresh.logits(0, story));
}

// ---- loss ----

double added_loss(const Path& model, std::string_view stage, index_t budget) {
  const Checkpoint checkpoint(model);
  const Limits limits{.sequences = 1, .capacity = passage_tokens};
  return loss(model, make_decoder(checkpoint, with_budget(stage, budget), limits)) -
         loss(model, make_decoder(checkpoint, find_stage(full_cache(model)), limits));
}

double added_loss(const Path& model, const MakeFeedForward& make_feed_forward) {
  const Checkpoint checkpoint(model);
  const Limits limits{.sequences = 1, .capacity = passage_tokens};
  const Stage& stage = find_stage(full_cache(model));
  return loss(model, make_decoder(checkpoint, stage, limits, make_feed_forward)) - loss(model, make_decoder(checkpoint, stage, limits));
}

double share_of_small_activations(const Path& model) {
  std::atomic<index_t> small = 0, all = 0;
  const auto count = [&](std::span<float> row) {
    const auto magnitude = [](float x) { return std::abs(x); };
    const float bound = magnitude(*std::ranges::max_element(row, {}, magnitude)) / 100;
    small += static_cast<index_t>(std::ranges::count_if(row, [&](float x) { return magnitude(x) < bound; }));
    all += row.size();
  };
  const Limits limits{.sequences = 1, .capacity = passage_tokens};
  loss(model, make_decoder(Checkpoint(model), find_stage(full_cache(model)), limits, with_change({.inputs = {}, .hidden = count})));
  return static_cast<double>(small) / static_cast<double>(all);
}

// ---- time ----

double step_ratio(const Path& model, std::string_view stage, index_t stored, std::string_view other, index_t other_stored) {
  const auto [one, two] = in_turns(steps(model, stage, stored), steps(model, other, other_stored));
  return one / two;
}

double step_milliseconds(const Path& model) {
  return in_turns(steps(model, cached, 512), [] {}).first;
}

double text_ratio(const Path& model, index_t count) {
  const std::vector<Token> tokens = held_out(model, "story.txt", count);
  const auto run = [&](std::string_view stage) {
    Decoder decoder = decoder_of(model, stage, count);
    for (const Token token : tokens) decoder.last_logits({{0, {token}}});
  };
  const auto [without, with] = in_turns([&] { run(uncached); }, [&] { run(cached); });
  return without / with;
}

double known_text_ratio(const Path& model) {
  const std::vector<Token> tokens = held_out(model, "stream.txt", 512);
  Decoder with = decoder_of(model, cached, 512), without = decoder_of(model, uncached, 512);
  const auto pass = [&](Decoder& decoder) {
    decoder.truncate(0, 0);
    decoder.logits(0, tokens);
  };
  const auto [one, two] = in_turns([&] { pass(with); }, [&] { pass(without); });
  return one / two;
}

double throughput_ratio(const Path& model) {
  const auto [one, eight] = in_turns(steps(model, cached, 128), steps(model, cached, 128, 8));
  return 8.0 * one / eight;
}

double tokens_fed(const Path& model, std::string_view stage) {
  constexpr index_t turns = 10, turn = 64;
  const std::vector<Token> tokens = held_out(model, "story.txt", turns * turn);
  Decoder decoder = decoder_of(model, stage, turns * turn);
  index_t fed = 0;
  for (index_t i = 0; i < turns; ++i) {
    fed += decoder.length(0) - decoder.remembered(0) + turn;
    decoder.last_logits({{0, part(tokens, i * turn, turn)}});
  }
  return static_cast<double>(fed);
}

double turns_ratio(const Path& model) {
  const auto [without, with] = in_turns([&] { tokens_fed(model, uncached); }, [&] { tokens_fed(model, cached); });
  return without / with;
}

// ---- what is kept ----

StateBytes bytes_after(const Path& model, std::string_view stage, index_t tokens) {
  Decoder decoder = decoder_of(model, stage, 1024);
  decoder.last_logits({{0, held_out(model, "stream.txt", tokens)}});
  return decoder.state_bytes();
}

double bytes_copied_ratio(const Path& model) {
  Decoder decoder = decoder_of(model, "concat", 256);
  std::size_t copied = 0;
  for (const Token token : held_out(model, "story.txt", 256)) {
    copied += decoder.state_bytes().used;
    decoder.last_logits({{0, {token}}});
  }
  return static_cast<double>(copied) / static_cast<double>(decoder.state_bytes().used);
}

double fastgen_bytes(const Path& model, index_t budget) {
  const std::vector<Token> text = held_out(model, "stream.txt", passages * passage_tokens + 1);
  const auto bytes = [&](const Stage& stage) {
    Decoder decoder = make_decoder(Checkpoint(model), stage, {.sequences = 1, .capacity = passage_tokens});
    return static_cast<double>(loss_after_prompt(decoder, text, passages).bytes);
  };
  return bytes(with_budget("fastgen", budget)) / bytes(find_stage(cached));
}

double hit_rate_of_ideal(const Path& model) {
  const Checkpoint checkpoint(model);
  const std::vector<TraceEntry> trace = seeded_trace({.requests = 16, .prompt_tokens = 32, .new_tokens = 8, .prefixes = 2});
  Scheduler scheduler = load_scheduler(checkpoint, find_stage("paged"), {.sequences = 4, .capacity = 512}, {});
  for (index_t i = 0; i < trace.size(); ++i)
    scheduler.submit(i + 1, {.prompt = prompt_of(trace[i], i, model_sizes(checkpoint.config()).vocabulary),
                             .max_new_tokens = trace[i].new_tokens});
  while (!scheduler.idle()) scheduler.step();
  return scheduler.stats().hit_rate() / ideal_hit_rate(trace, scheduler.stats().pages.page_rows);
}

double needles_found(const Path& model, std::string_view stage) {
  const Tokenizer tokenizer = open_tokenizer(model);
  const Haystack haystack(tokenizer, encode_prompt(model, tokenizer, ""), read_text(shipped("held_out/hay.txt")),
                          read_needle_task(Json::read(model / "needle.json")));
  Decoder decoder = decoder_of(model, stage, 256);
  double found = 0.0;
  for (const double depth : {0.0, 0.25, 0.5, 0.75, 1.0}) found += ask(decoder, haystack.text(256, depth, 0)).is_right();
  return found;
}

// ---- experts ----

double experts_read_ratio(const Path& model) {
  double one = 0.0, eight = 0.0;
  for (const auto& [layer, routing] : expert_usage(Checkpoint(model), held_out(model, "story.txt", 512)).routings) {
    one += distinct_experts(routing, 1);
    eight += distinct_experts(routing, 8);
  }
  return eight / one;
}

double load_of_costliest_experts(const Path& model) {
  const Checkpoint checkpoint(model);
  const std::vector<Token> tokens = held_out(model, "story.txt", 512);
  const index_t experts = mixture_sizes(checkpoint.config()).experts;
  const std::vector<Ablation> ablations = ablate_experts(checkpoint, tokens);
  double sum = 0.0, layers = 0.0;
  for (const auto& [layer, routing] : expert_usage(checkpoint, tokens).routings) {
    const Ablation& costliest = *std::ranges::max_element(
        ablations, {}, [layer = layer](const Ablation& each) { return each.layer == layer ? each.loss : 0.0; });
    const std::vector<index_t> loads = expert_loads(routing, experts);
    const index_t all = std::accumulate(loads.begin(), loads.end(), index_t{0});
    sum += static_cast<double>(loads[costliest.expert] * experts) / static_cast<double>(all);
    ++layers;
  }
  return sum / layers;
}

double final_violation(bool with_bias) {
  BalanceTrial trial;
  if (!with_bias) trial.speed = 0.0f;
  return simulate_balance(trial).back();
}

}  // namespace kv
