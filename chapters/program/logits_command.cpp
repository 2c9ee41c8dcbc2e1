#include <fstream>
#include <iostream>
#include <sstream>

#include "chapters/program/session.hpp"
#include "common/files/error.hpp"
#include "common/files/npy.hpp"

namespace kv {
namespace {

std::string read_file(const std::string& file) {
  std::ifstream stream(file);
  std::stringstream text;
  if (!stream || !(text << stream.rdbuf())) throw Error(file + ": cannot be read: is the path right?");
  return text.str();
}

/// "1,2,3", or "@FILE" with token ids separated by commas or white space.
std::vector<Token> parse_tokens(std::string text) {
  if (text.starts_with("@")) {
    text = read_file(text.substr(1));
    for (char& c : text)
      if (c == ',') c = ' ';
    std::istringstream words(text);
    text.clear();
    for (std::string word; words >> word;) text += (text.empty() ? "" : ",") + word;
  }
  std::vector<Token> tokens;
  for (const std::string& word : split(text)) {
    const index_t id = parse_size(word, "--tokens");
    if (id > static_cast<index_t>(std::numeric_limits<Token>::max()))
      throw Error("token id " + word + " is outside every vocabulary");
    tokens.push_back(static_cast<Token>(id));
  }
  return tokens;
}

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

void run(const Arguments& arguments) {
  const Stage& stage = find_stage(arguments.text("--stage"));
  apply_threads(arguments);
  const std::vector<Token> tokens = parse_tokens(arguments.text("--tokens"));
  const std::vector<index_t> chunks = parse_chunks(arguments, tokens.size());
  const std::string output = arguments.text("--output");
  const Checkpoint checkpoint = open_checkpoint(arguments);
  Decoder decoder = load_decoder(checkpoint, stage, {.sequences = 1, .capacity = require_context(checkpoint, tokens.size())});
  Tensor<2> logits = empty<2>({tokens.size(), decoder.vocabulary()});
  auto next = tokens.begin();
  for (const index_t chunk : chunks) {
    const auto end = next + static_cast<std::ptrdiff_t>(chunk);
    put_rows(logits, static_cast<index_t>(next - tokens.begin()), decoder.logits(0, {next, end}));
    next = end;
    show_progress("token " + std::to_string(next - tokens.begin()) + " of " + std::to_string(tokens.size()));
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
                              {"--output", "FILE.npy", "where to write"},
                              threads_option},
                             run};

}  // namespace kv
