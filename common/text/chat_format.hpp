#pragma once
/// @file
/// How a conversation is written as one text. Every family of chat models was trained on another form, and a model that
/// reads a strange one answers badly without any error.
#include <optional>
#include <string>
#include <string_view>

#include "common/text/tokenizer.hpp"

namespace kv {

/// A conversation is `start`, then for every turn
/// `before_user` + question + `after_user` + answer + `after_answer`. There is no system message.
struct ChatFormat {
  std::string name;         ///< "llama3"
  std::string start;        ///< the begin-of-text token, where the family has one
  std::string before_user;
  std::string after_user;   ///< closes the question and opens the answer
  /// One token, which the model says itself when it is done: a stop token, whatever generation_config.json lists.
  std::string end_of_answer;
  /// Begins with end_of_answer. What follows it, the model does not say.
  std::string after_answer;

  /// The part of after_answer that is still to be fed: all of it when the answer was cut off, otherwise what comes
  /// after the token that the model has said.
  std::string_view rest_of_answer(bool cut_off) const;
};

/// The format of a tokenizer, known by its special tokens; nothing when they are of no format known here.
/// Base models have their chat sisters' tokens: whether a model was trained to chat, a tokenizer does not tell.
std::optional<ChatFormat> chat_format(const Tokenizer& tokenizer);

}  // namespace kv
