#include "common/text/pre_tokenizer.hpp"

#include <algorithm>

#include "common/files/error.hpp"
#include "common/text/byte_alphabet.hpp"
#include "common/text/pattern.hpp"
#include "common/text/tokenizer_json.hpp"
#include "common/text/unicode.hpp"
#include "common/text/utf8.hpp"

namespace kv {
namespace {

using Words = std::vector<Word>;

PreTokenizer in_turn(std::vector<PreTokenizer> steps) {
  return [steps = std::move(steps)](Words words, Budget& budget) {
    for (const PreTokenizer& step : steps) words = step(std::move(words), budget);
    return words;
  };
}

/// Changes every word's text.  @param where names the step in errors
template <class Change>
PreTokenizer change_all(Change change, std::string where) {
  return [change = std::move(change), where = std::move(where)](Words words, Budget& budget) {
    for (Word& word : words) {
      change(word);
      budget.spend_on_bytes(word.text.size(), where);
    }
    return words;
  };
}

/// Cuts one word and appends the parts.
void cut(const Word& word, std::vector<Stretch> stretches, SplitBehavior behavior, Words& parts) {
  for (const Stretch& part : split(std::move(stretches), behavior))
    if (part.begin != part.end)
      parts.push_back({word.text.substr(part.begin, part.end - part.begin), word.starts_text && part.begin == 0});
}

/// The matches and what lies between them.
std::vector<Stretch> stretches(const std::vector<Span>& matches, std::size_t size) {
  std::vector<Stretch> all;
  all.reserve(2 * matches.size() + 1);
  std::size_t end = 0;
  for (const Span match : matches) {
    if (end != match.begin) all.push_back({end, match.begin, false});
    all.push_back({match.begin, match.end, true});
    end = match.end;
  }
  if (end != size) all.push_back({end, size, false});
  return all;
}

/// Cuts every word where the pattern matches or, inverted, where it does not.
PreTokenizer cut_all(const Pattern& pattern, SplitBehavior behavior, const std::string& where, bool invert = false) {
  return [=](const Words& words, Budget& budget) {
    Words parts;
    for (const Word& word : words) {
      budget.spend_on_bytes(sizeof word + word.text.size(), where);
      std::vector<Stretch> all = stretches(pattern.matches(word.text, budget), word.text.size());
      if (invert)
        for (Stretch& stretch : all) stretch.is_match = !stretch.is_match;
      cut(word, std::move(all), behavior, parts);
    }
    return parts;
  };
}

SplitBehavior read_behavior(const Json& json) {
  const std::string name = json.text();
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  throw Error(json.where() + " is " + excerpt(name) + ", which is not supported");
}

PreTokenizer read_split(const Json& json) {
  require_known_keys(json, {"type", "pattern", "behavior", "invert"});
  return cut_all(Pattern::read(json.at("pattern")), read_behavior(json.at("behavior")), json.where(),
                 flag_or(json, "invert", false));
}

PreTokenizer read_digits(const Json& json) {
  require_known_keys(json, {"type", "individual_digits"});
  const bool individual = flag_or(json, "individual_digits", false);
  return cut_all(Pattern::any_of(numbers(), json.where()),
                 individual ? SplitBehavior::isolated : SplitBehavior::contiguous, json.where());
}

/// GPT-2's own pattern, for files that declare ByteLevel alone: contractions, letters, numbers, and the rest, each with
/// the space before it; then white space, whose last character goes to the word that follows.
Pattern gpt2_pattern(const std::string& where) {
  return Pattern::regex(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", where);
}

/// Every byte becomes a printable character, so that 256 tokens can spell any text.
/// `trim_offsets` is about positions in the text, which nobody asks for here.
PreTokenizer read_byte_level(const Json& json) {
  require_known_keys(json, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
  std::vector<PreTokenizer> steps;
  if (flag_or(json, "add_prefix_space", true))
    steps.push_back(change_all(
        [](Word& word) {
          if (!word.text.starts_with(' ')) word.text.insert(word.text.begin(), ' ');
        },
        json.where()));
  if (flag_or(json, "use_regex", true))
    steps.push_back(cut_all(gpt2_pattern(json.where()), SplitBehavior::isolated, json.where()));
  steps.push_back(change_all([](Word& word) { word.text = to_byte_alphabet(word.text); }, json.where()));
  return in_turn(std::move(steps));
}

/// SentencePiece's way: a space becomes a visible mark, and words begin with it.
PreTokenizer read_metaspace(const Json& json) {
  require_known_keys(json, {"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
  const std::string mark = read_character(json.at("replacement"));
  const bool prefix = flag_or(json, "add_prefix_space", true);  // the key of older files
  const std::string scheme = text_or(json, "prepend_scheme", prefix ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never")
    throw Error(json.at("prepend_scheme").where() + " is " + excerpt(scheme) + ", which is not supported");
  if (!prefix && scheme != "never") throw Error(json.at("add_prefix_space").where() + " contradicts prepend_scheme");

  const PreTokenizer put_marks = change_all(
      [mark, scheme](Word& word) {
        std::string marked;
        for (const char byte : word.text) byte == ' ' ? marked += mark : marked += byte;
        const bool wanted = scheme == "always" || (scheme == "first" && word.starts_text);
        word.text = wanted && !marked.starts_with(mark) ? mark + marked : marked;
      },
      json.where());
  if (!flag_or(json, "split", true)) return put_marks;
  const std::string where = json.where();
  return in_turn({put_marks, cut_all(Pattern::literal(mark, where), SplitBehavior::merged_with_next, where)});
}

PreTokenizer read_step(const Json& json) {
  const std::string type = json.at("type").text();
  if (type == "Split") return read_split(json);
  if (type == "Digits") return read_digits(json);
  if (type == "ByteLevel") return read_byte_level(json);
  if (type == "Metaspace") return read_metaspace(json);
  throw_unknown_type(json);
}

/// A match joins the word before it, unless that ends with a match too.
std::vector<Stretch> merge_with_previous(const std::vector<Stretch>& stretches) {
  std::vector<Stretch> words;
  bool after_match = false;
  for (const Stretch& stretch : stretches) {
    if (stretch.is_match && !after_match && !words.empty()) words.back().end = stretch.end;
    else words.push_back(stretch);
    after_match = stretch.is_match;
  }
  return words;
}

/// The mirror image.
std::vector<Stretch> merge_with_next(const std::vector<Stretch>& stretches) {
  std::vector<Stretch> words;
  bool before_match = false;
  for (auto stretch = stretches.rbegin(); stretch != stretches.rend(); ++stretch) {
    if (stretch->is_match && !before_match && !words.empty()) words.back().begin = stretch->begin;
    else words.push_back(*stretch);
    before_match = stretch->is_match;
  }
  std::ranges::reverse(words);
  return words;
}

/// Neighbours of one kind are one word.
std::vector<Stretch> join_alike(const std::vector<Stretch>& stretches) {
  std::vector<Stretch> words;
  for (const Stretch& stretch : stretches) {
    if (!words.empty() && words.back().is_match == stretch.is_match) words.back().end = stretch.end;
    else words.push_back(stretch);
  }
  return words;
}

}  // namespace

std::vector<Stretch> split(std::vector<Stretch> stretches, SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::isolated: break;
    case SplitBehavior::removed:
      std::erase_if(stretches, [](const Stretch& stretch) { return stretch.is_match; });
      break;
    case SplitBehavior::merged_with_previous: return merge_with_previous(stretches);
    case SplitBehavior::merged_with_next: return merge_with_next(stretches);
    case SplitBehavior::contiguous: return join_alike(stretches);
  }
  return stretches;
}

PreTokenizer read_pre_tokenizer(const Json& json) {
  std::vector<PreTokenizer> steps;
  for (const Json& step : read_steps(json, "pretokenizers")) steps.push_back(read_step(step));
  return in_turn(std::move(steps));
}

}  // namespace kv
