#include "common/text/tokenizer_json.hpp"

#include <algorithm>
#include <limits>

#include "common/files/error.hpp"
#include "common/text/utf8.hpp"

namespace kv {

std::string excerpt(std::string_view text) {
  constexpr std::size_t longest = 60;
  std::string shown = replace_invalid_utf8(text.substr(0, longest));
  std::ranges::replace_if(shown, [](char c) { return (0 <= c && c < 0x20) || c == 0x7F; }, '?');
  return "'" + shown + (text.size() > longest ? "...'" : "'");
}

void require_known_keys(const Json& object, std::initializer_list<std::string_view> known) {
  for (const std::string& key : object.keys())
    if (std::ranges::find(known, key) == known.end()) throw Error(object.at(key).where() + " is not known");
}

void throw_unknown_type(const Json& object) {
  const Json type = object.at("type");
  throw Error(type.where() + " is " + excerpt(type.text()) + ", which is not supported here");
}

namespace {
constexpr std::size_t most_steps = 64;  // published files have eight

void append_steps(const Json& json, std::string_view key, std::vector<Json>& steps) {
  if (json.at("type").text() == "Sequence") {
    require_known_keys(json, {"type", key});
    const Json list = json.at(key);
    for (index_t i = 0; i < list.length(); ++i) append_steps(list.at(i), key, steps);
    return;
  }
  if (steps.size() == most_steps) throw Error(json.where() + " is one step too many: at most 64 are supported");
  steps.push_back(json);
}
}  // namespace

std::vector<Json> read_steps(const Json& json, std::string_view key) {
  std::vector<Json> steps;
  append_steps(json, key, steps);
  return steps;
}

bool flag_or(const Json& object, std::string_view key, bool otherwise) {
  return object.has(key) ? object.at(key).flag() : otherwise;
}

std::string text_or(const Json& object, std::string_view key, std::string_view otherwise) {
  return object.has(key) ? object.at(key).text() : std::string(otherwise);
}

std::string read_character(const Json& json) {
  const std::string text = json.text();
  if (text.empty() || character_length(text) != text.size()) throw Error(json.where() + " is not one character");
  return text;
}

Token read_token(const Json& id) {
  const index_t value = id.size();
  if (value > static_cast<index_t>(std::numeric_limits<Token>::max()))
    throw Error(id.where() + " is " + std::to_string(value) + ", which is too large for a token");
  return static_cast<Token>(value);
}

std::pair<std::string, std::string> read_pair(const Json& merge) {
  if (merge.is_array() && merge.length() == 2) return {merge.at(0).text(), merge.at(1).text()};
  const std::string text = merge.is_text() ? merge.text() : "";
  const auto space = text.find(' ');
  if (space == text.npos || text.find(' ', space + 1) != text.npos)
    throw Error(merge.where() + " is not a pair of tokens");
  return {text.substr(0, space), text.substr(space + 1)};
}

}  // namespace kv
