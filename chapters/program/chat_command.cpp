#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "chapters/program/session.hpp"
#include "common/files/error.hpp"
#include "common/text/chat_format.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

/// One conversation. Its tokens stay in the decoder; a turn feeds only what is new.
class Conversation {
 public:
  Conversation(const Checkpoint& checkpoint, const Stage& stage, const Arguments& arguments)
      : tokenizer_(open_tokenizer(checkpoint)),
        format_(require_format(checkpoint)),
        decoder_(load_decoder(checkpoint, stage, {.sequences = 1, .capacity = capacity(checkpoint, stage, arguments)})) {
    options_.max_new_tokens = arguments.size_or("--max-new-tokens", 256, 1);
    options_.sampling = sampling(checkpoint, arguments);
    options_.stop = stop_tokens(checkpoint);
    if (const auto end = tokenizer_.find(format_.end_of_answer)) options_.stop.push_back(*end);
  }

  void reset() {
    decoder_.truncate(0, 0);
    pending_.clear();
  }

  /// Answers one line of the user. When it does not fit, the conversation stays as it was.
  void turn(const std::string& line) {
    std::vector<Token> fresh = pending_;
    const std::string text = (decoder_.length(0) == 0 ? format_.start : "") + format_.before_user + line + format_.after_user;
    for (const Token token : tokenizer_.encode(text)) fresh.push_back(token);
    const index_t reused = decoder_.remembered(0), known = decoder_.length(0);
    TextStream stream(tokenizer_);
    options_.on_token = [&](index_t, Token token) { std::cout << stream.push(token) << std::flush; };
    const Generation generation = generate(decoder_, {{0, fresh}}, options_);
    std::cout << stream.finish() << "\n";
    report(reused, known + fresh.size() - reused, generation.metrics);
    pending_ = {generation.tokens[0].back()};  // drawn, but not fed yet
    const bool cut_off = std::ranges::find(options_.stop, pending_.back()) == options_.stop.end();
    for (const Token token : tokenizer_.encode(format_.rest_of_answer(cut_off))) pending_.push_back(token);
  }

 private:
  static index_t capacity(const Checkpoint& checkpoint, const Stage& stage, const Arguments& arguments) {
    const index_t context = model_sizes(checkpoint.config()).context;
    return require_context(checkpoint, stage, arguments.size_or("--capacity", std::min<index_t>(context, 4096), 1));
  }

  ChatFormat require_format(const Checkpoint& checkpoint) const {
    if (const auto format = chat_format(tokenizer_)) return *format;
    throw Error(checkpoint.directory().string() + ": its tokenizer has the special tokens of no chat format known here; use kvbook generate");
  }

  static void report(index_t reused, index_t prefilled, const Metrics& metrics) {
    std::cout << "[" << reused << " tokens reused, " << prefilled << " prefilled, hit rate "
              << decimal(100.0 * static_cast<double>(reused) / static_cast<double>(reused + prefilled), 0) << "%, TTFT "
              << decimal(metrics.ttft_ms(), 1) << " ms, TPOT " << decimal(metrics.tpot_ms(), 2) << " ms]\n\n";
  }

  Tokenizer tokenizer_;
  ChatFormat format_;
  Decoder decoder_;
  GenerateOptions options_;
  std::vector<Token> pending_;  // the end of the last answer
};

void run(const Arguments& arguments) {
  const Stage stage = chosen_stage(arguments, "preallocated");
  apply_threads(arguments);
  Conversation conversation(open_checkpoint(arguments), stage, arguments);
  const bool terminal = isatty(STDIN_FILENO);
  if (terminal) std::cout << "/reset forgets the conversation, /quit or Ctrl-D ends it\n\n";
  for (std::string line; std::cout << (terminal ? "> " : "") << std::flush, std::getline(std::cin, line);) {
    if (line == "/quit") return;
    if (line == "/reset") {
      conversation.reset();
      continue;
    }
    if (line.empty()) continue;
    try {
      conversation.turn(line);
    } catch (const Error& error) {
      if (!terminal) throw;
      std::cout << "(" << error.what() << "; /reset starts anew)\n\n";
    }
  }
}

}  // namespace

const Command chat_command{"chat",
                           "several turns, the cache kept between them",
                           {model_option, stage_option,
                            {"--capacity", "C", "tokens the conversation may have (default: the context, at most 4096)"},
                            {"--max-new-tokens", "N", "at most N tokens in an answer (default 256)"},
                            temperature_option, top_p_option, top_k_option, seed_option, threads_option},
                           run};

}  // namespace kv
