#pragma once
/// @file
/// How a conversation is written as one text. Every chat model was trained on a form of its own,
/// and one that reads a strange form answers badly without any error. So the form is not guessed: a
/// checkpoint brings it, as a template in the language Jinja, and `common/text/jinja` renders what
/// published templates use of it.
#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/text/jinja/syntax.hpp"

namespace kv {

struct Message {
  std::string role;     ///< "system", "user", "assistant"
  std::string content;  ///< UTF-8
};

/// The chat template of a checkpoint.
class ChatTemplate {
 public:
  /// Reads chat_template.jinja or, where there is none, `chat_template` of tokenizer_config.json: a
  /// text, or several with names, of which "default" is taken. The special tokens of
  /// tokenizer_config.json and special_tokens_map.json are the template's variables.
  /// @throws Error when there is none, and "FILE: line 3: ..." for what is not in the subset of
  /// Jinja
  explicit ChatTemplate(const std::filesystem::path& checkpoint);

  /// What transformers' apply_chat_template gives: with `tools` and `documents` none.
  /// @param open_answer add_generation_prompt: the text ends where the model's answer begins
  /// @param today for templates that write a date; none: that is an error
  /// @throws Error "FILE: line 3: ...", also for a conversation that the template itself does not
  /// accept
  std::string render(const std::vector<Message>& messages, bool open_answer,
                     const std::optional<std::chrono::year_month_day>& today = std::nullopt) const;

 private:
  std::string where_;
  jinja::Block block_;
  std::map<std::string, std::string> tokens_;  // "bos_token" and the like
};

}  // namespace kv
