#pragma once
/// @file
/// A needle in a haystack: is one fact found again in a long text, depending on where it stands?
/// @see Kamradt 2023, github.com/gkamradt/LLMTest_NeedleInAHaystack
#include <functional>
#include <string>
#include <vector>

#include "common/files/json.hpp"
#include "common/model/decoder.hpp"
#include "common/text/tokenizer.hpp"

namespace kv {

/// How a model is told a fact and asked for it: another model was taught other words. `{}` stands
/// for a value of three digits, no two alike.
struct NeedleTask {
  std::string needle;    ///< "The code of Kate is {}."
  std::string question;  ///< the end of the text, up to the value
  std::string answer;    ///< what must follow: " {}"
};
/// @throws Error unless needle and answer have one {} and the question is there
NeedleTask read_needle_task(const Json& file);

/// One text and what a model that looks back will say after it.
struct NeedleText {
  std::vector<Token> prompt, answer;
};

/// Texts of any length out of a shorter one.
class Haystack {
 public:
  /// @param begin tokens that every text begins with
  /// @param hay plain text, repeated as often as needed; special tokens in it are left out
  /// @throws Error when there is none
  Haystack(const Tokenizer& tokenizer, std::vector<Token> begin, const std::string& hay,
           NeedleTask task);

  /// The hay ends where a sentence ends, and begins where the length says. The needle stands behind
  /// the last sentence that ends before its depth, or inside a sentence when none does.
  /// @param length of prompt and answer together  @param depth 0: at the beginning, 1: just before
  /// the question
  /// @param trial other trials have other values and other hay  @throws Error when the length is
  /// too small
  NeedleText text(index_t length, double depth, index_t trial) const;

 private:
  /// The last end of a sentence behind token `first` of the endless hay and not behind `last`, or
  /// `last` if there is none.
  index_t sentence_end(index_t first, index_t last) const;

  const Tokenizer* tokenizer_;
  std::vector<Token> begin_, hay_;
  std::vector<bool> ends_sentence_;  // of every token of the hay
  std::vector<index_t> ends_;        // of the sentences: tokens of the hay up to there
  NeedleTask task_;
};

/// What came back.
struct NeedleAnswer {
  index_t asked;  ///< tokens of the answer that were asked for
  index_t right;  ///< of these, before the first wrong one
  double seconds;

  bool is_right() const { return right == asked; }
};

/// Asks sequence 0 of a decoder, which forgets it first. The text is fed in pieces. Of a stage that
/// remembers nothing only the first token of the answer is asked: it would read the whole text
/// again for each of the others.
/// @param on_piece called with the number of tokens fed so far
/// @throws Error as Decoder::logits, and when a logit is not a number
NeedleAnswer ask(Decoder& decoder, const NeedleText& text,
                 const std::function<void(index_t)>& on_piece = {});

}  // namespace kv
