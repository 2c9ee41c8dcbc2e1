#include <algorithm>
#include <cmath>
#include <iostream>
#include <set>

#include "chapters/models/mixture_config.hpp"
#include "chapters/models/model_tensors.hpp"
#include "chapters/program/session.hpp"
#include "chapters/studies/step_strip.hpp"
#include "chapters/studies/step_trace.hpp"
#include "common/files/error.hpp"
#include "common/files/replace_file.hpp"
#include "common/model/loss.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

constexpr index_t default_tokens = 24, candidates = 5;

/// The stages of chapters 1 to 4 that have layers of their own to look at.
std::vector<Stage> default_stages(const Checkpoint& checkpoint) {
  std::vector<Stage> result = stages(checkpoint);
  std::erase_if(result, [](const Stage& stage) { return stage.chapter > 4 || stage.name == "latent"; });
  return result;
}

/// Over all layers of a step.
template <class Of>
index_t sum(const Step& step, Of of) {
  index_t total = 0;
  for (const LayerStep& layer : step.layers) total += std::invoke(of, layer);
  return total;
}

StateBytes state_bytes(const Step& step) {
  StateBytes bytes;
  for (const LayerStep& layer : step.layers) bytes += layer.bytes;
  return bytes;
}

/// The largest difference of two weights, as far as both runs looked at the same tokens.
double largest_difference(const StepTrace& a, const StepTrace& b) {
  double largest = 0.0;
  for (index_t i = 0; i < std::min(a.steps.size(), b.steps.size()); ++i) {
    for (index_t l = 0; l < a.steps[i].layers.size(); ++l) {
      const Tensor<2>&x = a.steps[i].layers[l].weights, &y = b.steps[i].layers[l].weights;
      for (index_t j = 0; j < x.size(); ++j) largest = std::max(largest, std::abs(static_cast<double>(x.data()[j]) - y.data()[j]));
    }
    if (a.steps[i].next != b.steps[i].next) break;
  }
  return largest;
}

// ---- JSON ----

/// Two hexadecimal digits a number: 255 is 1.
std::string hexadecimal(const Tensor<2>& weights) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (const float weight : weights) {
    const long byte = std::lround(255.0f * weight);
    text += {digits[byte / 16], digits[byte % 16]};
  }
  return text;
}

std::vector<JsonObject> likely_tokens(const std::vector<float>& logits, const Tokenizer& tokenizer) {
  std::vector<Token> order(logits.size());
  for (index_t v = 0; v < order.size(); ++v) order[v] = static_cast<Token>(v);
  const index_t count = std::min(candidates, order.size());
  const auto first = order.begin(), last = first + static_cast<std::ptrdiff_t>(count);
  std::ranges::partial_sort(first, last, order.end(), {}, [&](Token token) { return std::pair(-logits[token], token); });
  std::vector<JsonObject> result;
  for (const Token token : std::span(first, last))
    result.push_back(JsonObject()
                         .set("token", static_cast<std::int64_t>(token))
                         .set("text", tokenizer.decode({{token}}))
                         .set("logit", static_cast<double>(logits[token]))
                         .set("probability", std::exp(-negative_log_likelihood(logits, token))));
  return result;
}

/// What is the same in every stage: taken from the first.
JsonObject describe_model_step(const Step& step, const Tokenizer& tokenizer) {
  std::vector<std::string> weights;
  std::vector<JsonObject> experts;
  for (index_t l = 0; l < step.layers.size(); ++l) {
    weights.push_back(hexadecimal(step.layers[l].weights));
    if (step.layers[l].experts.empty()) continue;
    std::vector<std::int64_t> chosen, shares;
    for (const auto& [expert, weight] : step.layers[l].experts) {
      chosen.push_back(static_cast<std::int64_t>(expert));
      shares.push_back(std::lround(1000.0f * weight));
    }
    experts.push_back(JsonObject().set("layer", l).set("chosen", chosen).set("thousandths", shares));
  }
  JsonObject object;
  object.set("length", step.layers.front().length()).set("likely", likely_tokens(step.logits, tokenizer)).set("weights", weights);
  if (!experts.empty()) object.set("experts", experts);
  return object;
}

JsonObject describe_step(const Step& step, const Checkpoint& checkpoint, const Stage& stage) {
  const StateBytes bytes = state_bytes(step);
  const StepFlop flop = step_flop(checkpoint, stage, step);
  std::vector<std::string> rows;
  for (const LayerStep& layer : step.layers) rows.push_back(layer.rows);
  return JsonObject()
      .set("fed", step.layers.front().fed)
      .set("rows_written", sum(step, &LayerStep::written))
      .set("rows_copied", sum(step, &LayerStep::copied))
      .set("rows_read", sum(step, &LayerStep::read))
      .set("state_bytes", bytes.allocated)
      .set("state_bytes_used", bytes.used)
      .set("moved_bytes", sum(step, &LayerStep::moved_bytes))
      .set("linear_flop", flop.linear)
      .set("attention_flop", flop.attention)
      .set("rows", rows);
}

JsonObject describe_sizes(const Checkpoint& checkpoint) {
  JsonObject sizes;
  const AttentionTensors tensors = attention_tensors(checkpoint, 0);
  const auto* latent = std::get_if<LatentTensors>(&tensors);
  const HeadSizes heads = head_sizes(tensors);
  sizes.set("L", model_sizes(checkpoint.config()).layers).set("H", heads.query_heads).set("G", heads.key_value_heads)
      .set("D", heads.key_width).set("W", heads.value_width).set("numbers_met", numbers_met(checkpoint));
  if (latent) sizes.set("R", latent->sizes.rank).set("P", latent->sizes.rope_width);
  if (feed_forward_cost(checkpoint.config()).mixture_layers > 0)
    sizes.set("E", mixture_sizes(checkpoint.config()).experts).set("groups", routing_rule(checkpoint.config()).limit.groups);
  return sizes;
}

std::string json(const Checkpoint& checkpoint, const Tokenizer& tokenizer, const std::vector<Token>& prompt,
                 const std::vector<StepTrace>& traces) {
  std::vector<std::string> texts;
  for (const Token token : prompt) texts.push_back(tokenizer.decode({{token}}));
  std::vector<JsonObject> steps, described;
  for (const Step& step : traces.front().steps) steps.push_back(describe_model_step(step, tokenizer));
  for (const StepTrace& trace : traces) {
    std::vector<JsonObject> of_stage;
    for (const Step& step : trace.steps) of_stage.push_back(describe_step(step, checkpoint, trace.stage));
    described.push_back(JsonObject()
                            .set("stage", trace.stage.name)
                            .set("chapter", static_cast<std::int64_t>(trace.stage.chapter))
                            .set("idea", trace.stage.idea)
                            .set("same_tokens", std::ranges::equal(trace.steps, traces.front().steps, {}, &Step::next, &Step::next))
                            .set("largest_weight_difference", largest_difference(trace, traces.front()))
                            .set("steps", of_stage));
  }
  return JsonObject()
      .set("model", checkpoint.directory().filename().string())
      .set("sizes", describe_sizes(checkpoint))
      .set("prompt", texts)
      .set("steps", steps)
      .set("stages", described)
      .text(-1) + "\n";
}

// ---- for people ----

std::string table(const Checkpoint& checkpoint, const std::vector<StepTrace>& traces) {
  Table table({"stage", "step", "rows in", "written", "copied", "read", "bytes used", "allocated", "bytes moved", "MFLOP"});
  for (const StepTrace& trace : traces)
    for (const index_t i : std::set<index_t>{0, std::min<index_t>(1, trace.steps.size() - 1), trace.steps.size() - 1}) {
      const Step& step = trace.steps[i];
      const StepFlop flop = step_flop(checkpoint, trace.stage, step);
      table.add({std::string(trace.stage.name), std::to_string(i), std::to_string(step.layers.front().fed),
                 grouped(sum(step, &LayerStep::written)), grouped(sum(step, &LayerStep::copied)), grouped(sum(step, &LayerStep::read)),
                 grouped(state_bytes(step).used), grouped(state_bytes(step).allocated), grouped(sum(step, &LayerStep::moved_bytes)),
                 decimal((flop.linear + flop.attention) / 1e6, 2)});
    }
  return table.text();
}

void run(const Arguments& arguments) {
  apply_threads(arguments);
  const Checkpoint checkpoint = open_checkpoint(arguments);
  const std::vector<Stage> chosen = chosen_stages(arguments, default_stages(checkpoint));
  const Tokenizer tokenizer = open_tokenizer(checkpoint.directory());
  const std::vector<Token> prompt = encode_prompt(checkpoint.directory(), tokenizer, arguments.text_or("--prompt", shipped_prompt));
  if (prompt.empty()) throw Error("the prompt is empty: there is nothing to continue");
  const index_t tokens = arguments.size_or("--tokens", default_tokens, 1);
  if (arguments.has("--experts") && feed_forward_cost(checkpoint.config()).mixture_layers == 0)
    throw Error("--experts: " + checkpoint.directory().string() + " has no experts");
  std::vector<StepTrace> traces;
  for (const Stage& stage : chosen) {
    require_context(checkpoint, stage, prompt.size() + tokens - 1);
    traces.push_back(trace_steps(checkpoint, stage, prompt, tokens));
  }
  if (arguments.has("--json")) replace_file(arguments.text("--json"), {json(checkpoint, tokenizer, prompt, traces)});
  if (arguments.has("--svg")) replace_file(arguments.text("--svg"), {step_strip(traces)});
  if (arguments.has("--experts"))
    replace_file(arguments.text("--experts"), {expert_strip(traces.front(), mixture_sizes(checkpoint.config()).experts)});
  if (arguments.has("--json") || arguments.has("--svg") || arguments.has("--experts")) return;
  std::cout << table(checkpoint, traces)
            << "step 0 is the prompt. Rows and bytes are those of all layers, found in memory; FLOP by the chapters' formulas.\n";
}

}  // namespace

const Command trace_command{"trace",
                            "what each step did: rows written, copied, read; attention, experts",
                            {model_option,
                             {"--stages", "A,B,...", "stages with layers of their own (default: those of chapters 1 to 4)"},
                             {"--prompt", "TEXT", "the text to continue (default: the beginning of a story)"},
                             {"--tokens", "N", "at most N new tokens (default 24)"},
                             {"--json", "FILE", "write all of it as one JSON object"},
                             {"--svg", "FILE", "write a strip of six steps"},
                             {"--experts", "FILE", "write a strip of the experts in six steps"},
                             threads_option},
                            run};

}  // namespace kv
