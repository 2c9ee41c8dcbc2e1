#include "common/text/pattern.hpp"

#include "common/text/regex_parser.hpp"
#include "common/text/tokenizer_json.hpp"
#include "common/text/utf8.hpp"

namespace kv {

Pattern::Pattern(const RegexNode& tree, const std::string& where)
    : program_(std::make_shared<const RegexProgram>(compile_regex(tree, where))) {}

Pattern Pattern::regex(std::string_view pattern, const std::string& where) {
  return {parse_regex(pattern, where), where};
}

Pattern Pattern::literal(std::string_view text, const std::string& where) {
  RegexNode sequence{.kind = RegexNode::Kind::sequence};
  while (!text.empty()) {
    const std::string_view character = text.substr(0, character_length(text));
    text.remove_prefix(character.size());
    const char32_t c = code_point(character);
    sequence.parts.push_back({.kind = RegexNode::Kind::set, .set = {{c, c}}});
  }
  return {sequence, where};
}

Pattern Pattern::any_of(const CodePoints& set, const std::string& where) {
  return {{.kind = RegexNode::Kind::set, .set = set}, where};
}

Pattern Pattern::read(const Json& json) {
  require_known_keys(json, {"Regex", "String"});
  if (json.has("String")) return literal(json.at("String").text(), json.at("String").where());
  return regex(json.at("Regex").text(), json.at("Regex").where());
}

std::vector<Span> Pattern::matches(std::string_view text, Budget& budget) const {
  return find_matches(*program_, text, budget);
}

std::string Pattern::replace_all(std::string_view text, std::string_view content, Budget& budget) const {
  budget.spend_on_bytes(text.size(), program_->where);
  std::string out;
  std::size_t copied = 0;
  for (const Span match : matches(text, budget)) {
    budget.spend_on_bytes(content.size(), program_->where);
    out.append(text.substr(copied, match.begin - copied)).append(content);
    copied = match.end;
  }
  return out.append(text.substr(copied));
}

}  // namespace kv
