#pragma once
/// @file
/// Tokens that are found in the text as they stand, before anything is merged: "<|im_end|>", "<think>".
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/files/json.hpp"
#include "common/text/budget.hpp"
#include "common/text/token.hpp"

namespace kv {

/// One of `added_tokens` in tokenizer.json.
struct AddedToken {
  std::string text;
  Token token;
  bool special;           ///< says something about the text and is not part of it
  bool single_word;       ///< does not count inside a word
  bool takes_space_left;  ///< white space beside it belongs to it
  bool takes_space_right;
  bool normalized;        ///< is looked for in the normalized text, and as the normalizer writes it
};

/// @throws Error naming the key
AddedToken read_added_token(const Json& json);

/// Part of a text: one added token, or what lies between two.
struct TextPart {
  std::size_t begin, end;
  std::optional<Token> token;
};

/// Finds tokens in a text: the leftmost first, and of those the longest.
class AddedTokenFinder {
 public:
  /// @param where names the tokens in errors
  explicit AddedTokenFinder(std::string where) : where_(std::move(where)) {}

  /// Looks for `pattern` from now on.  @return false when it is the pattern of another token
  bool add(std::string pattern, const AddedToken& token);

  /// The whole text in parts, none of them empty.  @param text UTF-8  @throws Error when the budget is used up
  std::vector<TextPart> split(std::string_view text, Budget& budget) const;

 private:
  struct Match {
    std::size_t end;
    const AddedToken* token;
  };
  std::optional<Match> longest_at(std::string_view text, std::size_t begin, Budget& budget) const;

  std::string where_;
  TextMap<AddedToken> tokens_;                        // by pattern
  std::array<std::vector<std::size_t>, 256> lengths_;  // of patterns, longest first, by their first byte
};

}  // namespace kv
