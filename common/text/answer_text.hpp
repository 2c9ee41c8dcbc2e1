#pragma once
/// @file
/// The text of one answer while its tokens come: whole characters, and nothing that a stop string might still take back.
#include <memory>
#include <string>
#include <vector>

#include "common/text/tokenizer.hpp"

namespace kv {

/// A text that ends an answer where it first appears, prepared to be looked for byte by byte.
/// @see Knuth, Morris and Pratt 1977: a byte costs the same however long the text is
class StopString {
 public:
  /// @param text not empty
  explicit StopString(std::string text);

  /// @param matched bytes of the text that the bytes so far end with  @return the same with one byte more
  index_t advance(index_t matched, char byte) const;
  index_t length() const { return text_.size(); }

 private:
  std::string text_;
  std::vector<index_t> shorter_;  // of its first i bytes: the longest proper suffix that is also a prefix
};

using StopStrings = std::shared_ptr<const std::vector<StopString>>;

/// Takes tokens, gives text. What it gave is never taken back: bytes that may begin a stop string wait until it is clear
/// that they do not. All it gives is together the text of the tokens up to the first stop string: the one that is complete
/// first, of several the longest. That does not depend on where tokens end.
class AnswerText {
 public:
  /// @param tokenizer must outlive this
  AnswerText(const Tokenizer& tokenizer, StopStrings stops);

  /// The text that is certain now.
  std::string push(Token token) { return take(stream_.push(token)); }
  /// What is left when no more tokens come; half a character becomes U+FFFD.
  std::string finish();
  /// A stop string was met: nothing comes any more.
  bool stopped() const { return stopped_; }

 private:
  std::string take(const std::string& text);

  TextStream stream_;
  StopStrings stops_;
  std::vector<index_t> matched_;  // of every stop string
  std::string held_;              // what a stop string may take back
  bool stopped_ = false;
};

}  // namespace kv
