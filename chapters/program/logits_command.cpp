#include <iostream>

#include "chapters/program/session.hpp"
#include "common/files/error.hpp"
#include "common/files/npy.hpp"

namespace kv {
namespace {

/// How many tokens each call gets; without --chunks all in one.
std::vector<index_t> parse_chunks(const Arguments& arguments, index_t total) {
  if (!arguments.has("--chunks")) return {total};
  std::vector<index_t> chunks;
  index_t sum = 0;
  for (const std::string& word : arguments.list("--chunks")) {
    chunks.push_back(parse_size(word, "--chunks"));
    if (chunks.back() == 0) throw UsageError("--chunks: a chunk of 0 tokens does nothing");
    sum += chunks.back();
  }
  if (sum != total)
    throw UsageError("--chunks add up to " + std::to_string(sum) + ", but there are " + std::to_string(total) + " tokens");
  return chunks;
}

/// The chunks, with one that goes on past the prompt's end cut there.
std::vector<index_t> end_chunk_at(index_t prompt_tokens, const std::vector<index_t>& chunks) {
  std::vector<index_t> result;
  index_t next = 0;
  for (index_t chunk : chunks) {
    if (next < prompt_tokens && prompt_tokens < next + chunk) {
      result.push_back(prompt_tokens - next);
      chunk -= result.back();
      next = prompt_tokens;
    }
    result.push_back(chunk);
    next += chunk;
  }
  return result;
}

void run(const Arguments& arguments) {
  const Stage stage = chosen_stage(arguments, arguments.text("--stage"));
  apply_threads(arguments);
  const std::vector<Token> tokens = parse_tokens(arguments.text("--tokens"));
  const std::vector<index_t> chunks = parse_chunks(arguments, tokens.size());
  const std::string output = arguments.text("--output");
  const Checkpoint checkpoint = open_checkpoint(arguments);
  const index_t capacity = require_context(checkpoint, stage, tokens.size());
  Decoder decoder = load_decoder(checkpoint, stage, {.sequences = 1, .capacity = capacity});
  Tensor<2> logits = empty<2>({tokens.size(), decoder.vocabulary()});
  const index_t prompt_tokens = arguments.size_or("--prompt-tokens", tokens.size());
  index_t next = 0;
  for (const index_t chunk : end_chunk_at(prompt_tokens, chunks)) {
    const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(next);
    put_rows(logits, next, decoder.logits(0, {begin, begin + static_cast<std::ptrdiff_t>(chunk)}));
    next += chunk;
    if (next == prompt_tokens) decoder.prompt_ends(0);
    show_progress("token " + std::to_string(next) + " of " + std::to_string(tokens.size()));
  }
  clear_progress();
  write_npy(output, logits);
}

}  // namespace

const Command logits_command{"logits",
                             "logits of given tokens, as an .npy file (f32, tokens x vocabulary)",
                             {model_option, stage_option,
                              {"--tokens", "1,2,3|@FILE", "token ids"},
                              {"--chunks", "5,1,1,...", "how many tokens each call gets (default: all in one)"},
                              {"--prompt-tokens", "N", "the first N tokens are the prompt (default: all)"},
                              {"--output", "FILE.npy", "where to write"},
                              threads_option},
                             run};

}  // namespace kv
