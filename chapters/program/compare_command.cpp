#include <iostream>

#include "chapters/program/comparison.hpp"
#include "common/files/error.hpp"

namespace kv {
namespace {

void run(const Arguments& arguments) {
  apply_threads(arguments);
  const Checkpoint checkpoint = open_checkpoint(arguments);
  const std::vector<Stage> chosen = chosen_stages(arguments, stages(checkpoint));
  const Tokenizer tokenizer = open_tokenizer(checkpoint.directory());
  const std::vector<Token> prompt = encode_prompt(checkpoint.directory(), tokenizer, arguments.text_or("--prompt", shipped_prompt));
  if (prompt.empty()) throw Error("the prompt is empty: there is nothing to continue");
  const index_t max_new_tokens = arguments.size_or("--max-new-tokens", 64, 1);
  const auto runs = run_stages(checkpoint, chosen, prompt, [=](const Stage&) { return max_new_tokens; }, [](Token) {});
  if (arguments.has("--json"))
    std::cout << JsonObject().set("model", checkpoint.directory().string()).set("runs", comparison_json(runs)).text() << "\n";
  else
    std::cout << comparison_table(runs);
  require_promises(runs);
}

}  // namespace

const Command compare_command{"compare",
                              "several stages on one prompt: equality, speed, bytes per token",
                              {model_option,
                               {"--stages", "A,B,...", "stages; the first is the reference (default: all)"},
                               {"--prompt", "TEXT", "the text to continue (default: the beginning of a story)"},
                               {"--max-new-tokens", "N", "at most N new tokens (default 64)"},
                               threads_option, json_option},
                              run};

}  // namespace kv
