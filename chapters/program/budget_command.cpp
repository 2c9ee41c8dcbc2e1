#include <algorithm>
#include <charconv>
#include <iostream>

#include "chapters/models/model_sizes.hpp"
#include "chapters/program/session.hpp"
#include "chapters/studies/memory_budget.hpp"
#include "common/files/error.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

/// "24G", "512M", "1.5T": bytes, in powers of 1000.
std::size_t parse_memory(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const double factor = unit == "M" ? 1e6 : unit == "G" ? 1e9 : unit == "T" ? 1e12 : 0;
  if (error != std::errc() || factor == 0 || !(value > 0) || value * factor > 1e18)
    throw UsageError("--memory " + text + ": needs a number and M, G or T, as 24G");
  return static_cast<std::size_t>(value * factor);
}

constexpr index_t usual_prompt = 512;

/// What is asked about.
struct Question {
  Json config;
  std::optional<std::size_t> weight_bytes;
  std::size_t memory;
  index_t sequences, context, prompt;
};

Question read_question(const Arguments& arguments) {
  const std::filesystem::path directory = model_directory(arguments);
  Question question{.config = Json::read(directory / "config.json"),
                    .weight_bytes = std::nullopt,
                    .memory = parse_memory(arguments.text("--memory")),
                    .sequences = arguments.size_or("--batch", 1, 1),
                    .context = 0,
                    .prompt = 0};
  if (const auto weights = weights_of(directory)) question.weight_bytes = weights->bytes();
  question.context = arguments.size_or("--context", model_sizes(question.config).context, 1);
  question.prompt =
      arguments.size_or("--prompt-tokens", std::min(question.context, usual_prompt), 1);
  return question;
}

/// One stage's answer.
struct Answer {
  std::string_view stage;
  MemoryBudget budget;
  bool fits;
  index_t longest;  // context
};

Answer answer(const Question& question, std::string_view stage) {
  const auto& [config, weight_bytes, memory, sequences, context, prompt] = question;
  const MemoryBudget budget =
      memory_budget(config, stage, {sequences, context}, weight_bytes, prompt);
  return {stage, budget, budget.total() <= memory,
          longest_context(config, stage, sequences, weight_bytes, prompt, memory)};
}

std::string gigabytes(std::size_t bytes) { return decimal(static_cast<double>(bytes) / 1e9, 3); }

std::string table_text(const std::vector<Answer>& answers) {
  Table table(
      {"stage", "weights, GB", "cache, GB", "work, GB", "in all, GB", "fits", "longest context"});
  for (const auto& [stage, budget, fits, longest] : answers)
    table.add({std::string(stage), gigabytes(budget.weights), gigabytes(budget.cache),
               gigabytes(budget.work), gigabytes(budget.total()), fits ? "yes" : "no",
               grouped(longest)});
  return table.text();
}

JsonObject json(const Answer& answer) {
  return JsonObject()
      .set("stage", answer.stage)
      .set("weights", answer.budget.weights)
      .set("cache", answer.budget.cache)
      .set("work", answer.budget.work)
      .set("total", answer.budget.total())
      .set("fits", answer.fits)
      .set("longest_context", answer.longest);
}

/// @throws Error unless the smallest that was asked about fits
void require_fit(const std::vector<Answer>& answers, const Question& question) {
  const Answer& least = *std::ranges::min_element(
      answers, {}, [](const Answer& each) { return each.budget.total(); });
  if (least.fits) return;
  throw Error(std::string(least.stage) + " needs " + gigabytes(least.budget.total()) + " GB of " +
              gigabytes(question.memory) + ": " + gigabytes(least.budget.weights) +
              " for weights, " + gigabytes(least.budget.cache) + " for the cache, " +
              gigabytes(least.budget.work) + " for work; " +
              (least.longest > 0 ? "at most " + grouped(least.longest) + " tokens of context fit"
                                 : "no context fits"));
}

void run(const Arguments& arguments) {
  const Question question = read_question(arguments);
  std::vector<Answer> answers;
  if (arguments.has("--stage"))
    answers.push_back(answer(question, chosen_stage(arguments, "").name));
  else
    for (const std::string_view stage : counted_stages(question.config))
      answers.push_back(answer(question, stage));
  require_fit(answers, question);
  if (arguments.has("--json")) {
    std::vector<JsonObject> list;
    for (const Answer& each : answers) list.push_back(json(each));
    std::cout << JsonObject()
                     .set("memory", question.memory)
                     .set("context", question.context)
                     .set("batch", question.sequences)
                     .set("prompt_tokens", question.prompt)
                     .set("stages", list)
                     .text()
              << "\n";
  } else {
    std::cout << "context " << grouped(question.context) << ", batch " << question.sequences
              << ", prompts of " << grouped(question.prompt) << " tokens in one piece, weights "
              << (question.weight_bytes ? "as they are stored"
                                        : "counted in bf16: there are none here")
              << "\n"
              << table_text(answers);
  }
}

}  // namespace

const Command budget_command{
    "budget",
    "what fits into memory: weights, cache, work",
    {{"--model", "DIR", "Hugging Face checkpoint directory; config.json alone will do"},
     {"--memory", "24G", "what there is, in powers of 1000: M, G or T"},
     {"--context", "N", "tokens of each sequence (default: the model's context)"},
     {"--batch", "B", "sequences (default 1)"},
     {"--prompt-tokens", "N", "read at once, of all sequences (default: 512)"},
     {"--stage", "S", "one stage (default: all whose caches are counted)"},
     json_option},
    run};

}  // namespace kv
