#include <iostream>

#include "chapters/program/session.hpp"
#include "common/files/error.hpp"
#include "common/tensor/parallel.hpp"

namespace kv {
namespace {

void run(const Arguments& arguments) {
  const Stage stage = chosen_stage(arguments, "preallocated");
  apply_threads(arguments);
  const Checkpoint checkpoint = open_checkpoint(arguments);
  const Tokenizer tokenizer = open_tokenizer(checkpoint.directory());
  const std::string prompt = arguments.text("--prompt");
  const std::vector<Token> tokens = encode_prompt(checkpoint.directory(), tokenizer, prompt);
  if (tokens.empty()) throw Error("the prompt is empty: there is nothing to continue");

  const bool json = arguments.has("--json");
  TextStream stream(tokenizer);
  GenerateOptions options = generate_options(checkpoint, arguments, 128);
  if (!json)
    options.on_token = [&](index_t, Token token) { std::cout << stream.push(token) << std::flush; };
  const index_t capacity = require_context(checkpoint, stage, tokens.size() + options.max_new_tokens - 1);
  Decoder decoder = load_decoder(checkpoint, stage, {.sequences = 1, .capacity = capacity});
  if (!json) std::cout << prompt << std::flush;
  const Generation generation = generate(decoder, {{0, tokens}}, options);
  if (!json) {
    std::cout << stream.finish() << "\n";
    return;
  }
  JsonObject object;
  std::string text;
  for (const Token token : generation.tokens[0]) text += stream.push(token);
  object.set("stage", stage.name)
      .set("model", checkpoint.directory().string())
      .set("prompt", prompt)
      .set("text", text + stream.finish())
      .set("tokens", std::vector<std::int64_t>(generation.tokens[0].begin(), generation.tokens[0].end()))
      .set("threads", threads());
  generation.metrics.write(object);
  std::cout << object.text() << "\n";
}

}  // namespace

const Command generate_command{"generate",
                               "continue a prompt",
                               {model_option, stage_option,
                                {"--prompt", "TEXT", "the text to continue"},
                                {"--max-new-tokens", "N", "at most N new tokens (default 128)"},
                                temperature_option, top_p_option, top_k_option, seed_option, threads_option, json_option},
                               run};

}  // namespace kv
