#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <optional>

#include "chapters/program/session.hpp"
#include "common/files/error.hpp"
#include "common/text/chat_template.hpp"
#include "common/text/table.hpp"
#include "common/text/utf8.hpp"

namespace kv {
namespace {

/// "2026-03-07"
std::chrono::year_month_day parse_date(const std::string& text) {
  unsigned year = 0, month = 0, day = 0;
  int length = 0;
  const bool read = std::sscanf(text.c_str(), "%4u-%2u-%2u%n", &year, &month, &day, &length) == 3;
  const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(year)), std::chrono::month(month), std::chrono::day(day)};
  if (!read || static_cast<std::size_t>(length) != text.size() || text.size() != 10 || !date.ok())
    throw UsageError("--date must be a day like 2026-03-07");
  return date;
}

/// What happens when the next turn has no room.
enum class WhenFull {
  refuse,
  forget,  ///< the oldest turns
};

WhenFull when_full(const Arguments& arguments) {
  const std::string word = arguments.text_or("--when-full", "refuse");
  if (word != "refuse" && word != "forget") throw UsageError("--when-full must be refuse or forget, not '" + word + "'");
  return word == "forget" ? WhenFull::forget : WhenFull::refuse;
}

/// One conversation. The checkpoint's template writes all of it anew at every turn: what earlier turns look like may
/// change, as the thoughts that some templates leave out later. Tokens that are still the same stay in the decoder.
class Conversation {
 public:
  Conversation(const Checkpoint& checkpoint, const Stage& stage, const Arguments& arguments)
      : tokenizer_(open_tokenizer(checkpoint.directory())),
        template_(checkpoint.directory()),
        options_(generate_options(checkpoint, arguments, 256)),
        when_full_(when_full(arguments)),
        decoder_(load_decoder(checkpoint, stage, {.sequences = 1, .capacity = capacity(checkpoint, stage, arguments)})) {
    if (arguments.has("--date")) today_ = parse_date(arguments.text("--date"));
    if (arguments.has("--system")) system_.push_back({"system", arguments.text("--system")});
    reset();
  }

  void reset() {
    decoder_.truncate(0, 0);
    messages_ = system_;
  }

  /// Answers one line of the user. When that fails, the conversation stays as it was.
  void turn(const std::string& line) {
    std::vector<Message> messages = messages_;
    messages.push_back({"user", replace_invalid_utf8(line)});
    const auto [prompt, forgotten] = fitting_prompt(messages);
    GenerateOptions options = options_;
    options.max_new_tokens = std::min(options_.max_new_tokens, room_after(prompt));
    // [common prefix]
    decoder_.truncate(0, common_prefix(decoder_.tokens(0), prompt));
    const std::vector<Token> fresh(prompt.begin() + static_cast<std::ptrdiff_t>(decoder_.length(0)), prompt.end());
    // [common prefix]
    const index_t reused = decoder_.remembered(0);
    TextStream stream(tokenizer_);
    std::string answer;
    const auto say = [&](const std::string& text) {
      answer += text;
      std::cout << text << std::flush;
    };
    options.on_token = [&](index_t, Token token) { say(stream.push(token)); };
    const Generation generation = generate(decoder_, {{0, fresh}}, options);
    say(stream.finish());
    std::cout << "\n";
    if (const std::vector<Token>& said = generation.tokens.front();
        said.size() == options.max_new_tokens && said.size() < options_.max_new_tokens && !is_stop(said.back()))
      std::cout << "[cut: the conversation fills all of its " << decoder_.limits().capacity << " tokens]\n";
    report(reused, prompt.size() - reused, forgotten, generation.metrics);
    messages.push_back({"assistant", answer});
    messages_ = std::move(messages);
  }

 private:
  static constexpr index_t endless = 1 << 24;  ///< tokens of a conversation whose state does not grow

  static index_t capacity(const Checkpoint& checkpoint, const Stage& stage, const Arguments& arguments) {
    const index_t context = model_sizes(checkpoint.config()).context;
    const index_t usual = stage.reach == Reach::beyond_made ? endless : std::min<index_t>(context, 4096);
    return require_context(checkpoint, stage, arguments.size_or("--capacity", usual, 1));
  }

  struct Prompt {
    std::vector<Token> tokens;
    index_t forgotten;  ///< turns that were left out
  };

  /// The conversation as the template writes it. When it has no room, and may forget, it loses whole turns from the front until
  /// there is room for an answer of the usual length; what the model was told before the first turn stays.
  Prompt fitting_prompt(std::vector<Message>& messages) const {
    for (index_t forgotten = 0;; ++forgotten) {
      std::vector<Token> tokens = tokenizer_.encode(template_.render(messages, true, today_));
      if (tokens.empty()) throw Error("the chat template makes no text of this conversation: there is nothing to answer");
      const bool last_turn = messages.size() == system_.size() + 1, may_forget = when_full_ == WhenFull::forget && !last_turn;
      const bool fits = tokens.size() <= decoder_.limits().capacity;
      if (fits && (!may_forget || room_after(tokens) >= options_.max_new_tokens)) return {std::move(tokens), forgotten};
      if (!may_forget)
        throw Error("the conversation has " + std::to_string(tokens.size()) + " tokens and room for " +
                    std::to_string(decoder_.limits().capacity) +
                    (last_turn ? ": this turn alone is too long" : ": --when-full forget leaves out the oldest turns, --stage streaming forgets tokens"));
      const auto turn = messages.begin() + static_cast<std::ptrdiff_t>(system_.size());
      messages.erase(turn, turn + 2);  // what the user said, and the answer
    }
  }

  /// Of an answer: its last token is not fed.
  index_t room_after(const std::vector<Token>& prompt) const { return decoder_.limits().capacity - prompt.size() + 1; }

  bool is_stop(Token token) const { return std::ranges::find(options_.stop, token) != options_.stop.end(); }

  /// How many tokens need not be fed. One always must be: the answer begins with its logits.
  static index_t common_prefix(const std::vector<Token>& held, const std::vector<Token>& prompt) {
    const auto end = std::ranges::mismatch(held, prompt).in2;
    return std::min<index_t>(static_cast<index_t>(end - prompt.begin()), prompt.size() - 1);
  }

  static void report(index_t reused, index_t prefilled, index_t forgotten, const Metrics& metrics) {
    std::cout << "[" << reused << " tokens reused, " << prefilled << " prefilled, hit rate "
              << decimal(100.0 * static_cast<double>(reused) / static_cast<double>(reused + prefilled), 0) << "%, TTFT "
              << decimal(metrics.ttft_ms(), 1) << " ms, TPOT " << decimal(metrics.tpot_ms(), 2) << " ms";
    if (forgotten != 0) std::cout << ", " << forgotten << (forgotten == 1 ? " turn" : " turns") << " forgotten";
    std::cout << "]\n\n";
  }

  Tokenizer tokenizer_;
  ChatTemplate template_;
  GenerateOptions options_;
  WhenFull when_full_;
  Decoder decoder_;
  std::optional<std::chrono::year_month_day> today_;
  std::vector<Message> system_, messages_;
};

void run(const Arguments& arguments) {
  const Stage stage = chosen_stage(arguments, "preallocated");
  apply_threads(arguments);
  Conversation conversation(open_checkpoint(arguments), stage, arguments);
  const bool terminal = isatty(STDIN_FILENO);
  if (terminal) std::cout << "/reset forgets the conversation, /quit or Ctrl-D ends it\n\n";
  std::exception_ptr failure;
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
      std::cout << "(" << error.what() << "; /reset starts anew)\n\n";
      if (!terminal && !failure) failure = std::current_exception();  // the turns that follow are answered first
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

const Command chat_command{"chat",
                           "several turns, the cache kept between them",
                           {model_option, stage_option,
                            {"--capacity", "C", "tokens the conversation may have (default: the context, at most 4096)"},
                            {"--when-full", "WHAT", "refuse the next turn (default), or forget whole turns from the front"},
                            {"--max-new-tokens", "N", "at most N tokens in an answer (default 256)"},
                            {"--system", "TEXT", "what the model is told before the first turn"},
                            {"--date", "YYYY-MM-DD", "today, for chat templates that write a date"},
                            temperature_option, top_p_option, top_k_option, seed_option, threads_option},
                           run};

}  // namespace kv
