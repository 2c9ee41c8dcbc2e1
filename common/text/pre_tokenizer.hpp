#pragma once
/// @file
/// How a text is cut into words. Merges never cross from one word to the next, so the cuts decide which tokens can
/// be at all: "dog." and "dog!" share the token "dog" because punctuation is cut off.
#include <functional>
#include <string>
#include <vector>

#include "common/files/json.hpp"
#include "common/text/budget.hpp"

namespace kv {

/// A word on its way to the merges, or what will be cut into words.
struct Word {
  std::string text;           ///< UTF-8, not empty
  bool starts_text = false;   ///< the text's own first character is in it
};

/// One step, or several.  @throws Error when the budget is used up
using PreTokenizer = std::function<std::vector<Word>(std::vector<Word>, Budget&)>;

/// The `pre_tokenizer` of tokenizer.json: Split, Digits, ByteLevel, Metaspace, or a Sequence of them.
/// @throws Error naming what else is declared
PreTokenizer read_pre_tokenizer(const Json& pre_tokenizer);

/// What becomes of the matches of a Split's pattern.
enum class SplitBehavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };

/// A stretch of a text that the pattern matches, or that lies between two matches.
struct Stretch {
  std::size_t begin, end;
  bool is_match;
};

/// The words of a text whose stretches are given: without gaps, from left to right.
std::vector<Stretch> split(std::vector<Stretch> stretches, SplitBehavior behavior);

}  // namespace kv
