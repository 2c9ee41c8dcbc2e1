#include "common/text/added_tokens.hpp"

#include <algorithm>

#include "common/files/error.hpp"
#include "common/text/tokenizer_json.hpp"
#include "common/text/unicode.hpp"
#include "common/text/utf8.hpp"

namespace kv {
namespace {

std::string_view first_character(std::string_view text) { return text.substr(0, character_length(text)); }

std::string_view last_character(std::string_view text) {
  std::size_t begin = text.size() - 1;
  while ((static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return text.substr(begin);
}

/// Two joiners of no width are of a word too.
bool is_of_word(char32_t c) { return c == 0x200C || c == 0x200D || word_characters().contains(c); }

bool ends_with_word(std::string_view text) {
  return !text.empty() && is_of_word(code_point(last_character(text)));
}
bool starts_with_word(std::string_view text) {
  return !text.empty() && is_of_word(code_point(first_character(text)));
}

std::size_t white_space_at_end(std::string_view text) {
  const std::size_t size = text.size();
  while (!text.empty() && is_white_space(code_point(last_character(text))))
    text.remove_suffix(last_character(text).size());
  return size - text.size();
}

std::size_t white_space_at_start(std::string_view text) {
  const std::size_t size = text.size();
  while (!text.empty() && is_white_space(code_point(first_character(text))))
    text.remove_prefix(first_character(text).size());
  return size - text.size();
}

}  // namespace

AddedToken read_added_token(const Json& json) {
  require_known_keys(json, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  AddedToken token{json.at("content").text(),         read_token(json.at("id")),
                   flag_or(json, "special", false),   flag_or(json, "single_word", false),
                   flag_or(json, "lstrip", false),    flag_or(json, "rstrip", false),
                   flag_or(json, "normalized", true)};
  if (token.text.empty()) throw Error(json.at("content").where() + " is empty");
  return token;
}

bool AddedTokenFinder::add(std::string pattern, const AddedToken& token) {
  auto& lengths = lengths_[static_cast<unsigned char>(pattern.front())];
  if (std::ranges::find(lengths, pattern.size()) == lengths.end()) lengths.push_back(pattern.size());
  std::ranges::sort(lengths, std::greater<>());
  return tokens_.emplace(std::move(pattern), token).second;
}

std::optional<AddedTokenFinder::Match> AddedTokenFinder::longest_at(std::string_view text, std::size_t begin,
                                                                    Budget& budget) const {
  for (const std::size_t length : lengths_[static_cast<unsigned char>(text[begin])]) {
    if (length > text.size() - begin) continue;
    budget.spend(length, where_);
    const auto found = tokens_.find(text.substr(begin, length));
    if (found != tokens_.end()) return Match{begin + length, &found->second};
  }
  return std::nullopt;
}

std::vector<TextPart> AddedTokenFinder::split(std::string_view text, Budget& budget) const {
  std::vector<TextPart> parts;
  std::size_t covered = 0;  // the parts reach up to here
  for (std::size_t at = 0; at < text.size();) {
    const auto match = longest_at(text, at, budget);
    if (!match) {
      ++at;
      continue;
    }
    const AddedToken& token = *match->token;
    std::size_t begin = at, end = match->end;
    at = match->end;
    const bool inside_word = ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end));
    if (token.single_word && inside_word) continue;
    if (token.takes_space_left) begin -= white_space_at_end(text.substr(0, begin));
    if (token.takes_space_right) end += white_space_at_start(text.substr(end));
    begin = std::max(begin, covered);  // the token before may have taken the same white space
    budget.spend(end - begin, where_);
    if (covered < begin) parts.push_back({covered, begin, std::nullopt});
    parts.push_back({begin, end, token.token});
    covered = end;
  }
  if (covered < text.size()) parts.push_back({covered, text.size(), std::nullopt});
  return parts;
}

}  // namespace kv
