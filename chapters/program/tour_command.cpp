#include <algorithm>
#include <iostream>

#include "chapters/06_cuda_kernels/cuda_stages.hpp"
#include "chapters/program/comparison.hpp"
#include "common/files/error.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

/// Stages up to a chapter: what a reader knows there.
std::vector<Stage> stages_up_to(index_t chapter, Family family) {
  std::vector<Stage> result;
  for (const Stage& stage : stages(family))
    if (static_cast<index_t>(stage.chapter) <= chapter) result.push_back(stage);
  if (result.empty()) throw UsageError("no stage up to chapter " + std::to_string(chapter) + " runs on this model");
  return result;
}

/// The models to show: the one that was named, or those that ship with the book and belong to the chapter.
std::vector<std::filesystem::path> models(const Arguments& arguments, std::optional<index_t> chapter) {
  constexpr index_t first_latent_chapter = 4;
  if (arguments.has("--model")) return {arguments.text("--model")};
  if (!chapter) return {shipped_gqa(), shipped_mla()};
  return {*chapter < first_latent_chapter ? shipped_gqa() : shipped_mla()};
}

/// Tokens that a stage writes whose kernels run thread by thread on the CPU: enough to see that they are the same.
constexpr index_t tokens_on_cpu_runtime = 24;

bool is_slow(const Stage& stage) { return stage.chapter == cuda_chapter && cuda_runs_on_cpu(); }

void explain(const std::vector<StageRun>& runs) {
  std::cout << "\nTTFT: time to first token, the prefill. TPOT: time per output token, the median decode step.\n"
               "state bytes: what the stage has allocated to remember; bytes/token: that over the "
            << runs.front().metrics.state_tokens << " tokens held,\n"
               "so that capacity without a token in it shows as more.\n";
  if (std::ranges::any_of(runs, [](const StageRun& run) { return is_slow(run.stage); }))
    std::cout << "The kernels of chapter " << cuda_chapter << " ran on the CPU here, every CUDA thread by itself: the same program as on a GPU,\n"
                 "the same text, but not its speed. They were asked for " << tokens_on_cpu_runtime << " tokens at most, so they hold fewer.\n";
}

void show(const std::filesystem::path& model, const std::vector<Stage>& chosen, const Arguments& arguments) {
  const Checkpoint checkpoint(model);
  const Tokenizer tokenizer = open_tokenizer(checkpoint.directory());
  const std::string prompt = arguments.text_or("--prompt", shipped_prompt);
  std::cout << "One model, one prompt, " << chosen.size() << " ways to attend.\nmodel: " << model.filename().string()
            << ", " << name(family(checkpoint.config())) << ", " << grouped(checkpoint.parameters())
            << " parameters\n\n" << chosen.front().name << " writes:\n\n  " << prompt << std::flush;
  TextStream stream(tokenizer);
  const index_t asked = arguments.size_or("--max-new-tokens", 200, 1);
  const auto runs = run_stages(checkpoint, chosen, encode_prompt(checkpoint.directory(), tokenizer, prompt),
                               [&](const Stage& stage) { return is_slow(stage) ? std::min(asked, tokens_on_cpu_runtime) : asked; },
                               [&](Token token) { std::cout << stream.push(token) << std::flush; });
  std::cout << stream.finish() << "\n\n";
  for (const StageRun& run : runs)
    if (&run != &runs.front())
      std::cout << run.stage.name << " writes "
                << (difference(run, runs.front()).same_tokens ? "the same " + std::to_string(run.tokens.size())
                                                              : std::to_string(run.tokens.size()) + " OTHER")
                << " tokens.\n";
  std::cout << "\n" << comparison_table(runs);
  explain(runs);
  require_promises(runs);
}

void run(const Arguments& arguments) {
  apply_threads(arguments);
  std::optional<index_t> chapter;
  if (arguments.has("--chapter")) chapter = arguments.size_or("--chapter", 0, 1);
  const index_t last = static_cast<index_t>(stages().back().chapter);
  std::string gap;
  for (const std::filesystem::path& model : models(arguments, chapter)) {
    std::cout << std::exchange(gap, "\n\n");
    show(model, stages_up_to(chapter.value_or(last), family(Json::read(model / "config.json"))), arguments);
  }
}

}  // namespace

const Command tour_command{"tour",
                           "the main job: every stage on the shipped models, side by side",
                           {{"--model", "DIR", "Hugging Face checkpoint directory (default: the models that ship with the book)"},
                            {"--chapter", "N", "only the stages up to chapter N"},
                            {"--prompt", "TEXT", "the text to continue (default: the beginning of a story)"},
                            {"--max-new-tokens", "N", "at most N new tokens (default 200)"},
                            threads_option},
                           run};

}  // namespace kv
