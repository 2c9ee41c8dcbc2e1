#pragma once
/// @file
/// What tokenizer.json looks for in a text.
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/files/json.hpp"
#include "common/text/budget.hpp"
#include "common/text/code_points.hpp"
#include "common/text/regex_matcher.hpp"

namespace kv {

/// A compiled pattern. Cheap to copy; may be used by several threads at once.
class Pattern {
 public:
  /// A regular expression in Oniguruma's language (regex_parser.hpp).
  /// @param where names it in errors  @throws Error for one that is not valid or not supported
  static Pattern regex(std::string_view pattern, const std::string& where);
  /// Matches this text only.  @param text UTF-8
  static Pattern literal(std::string_view text, const std::string& where);
  /// Matches every one of these characters.
  static Pattern any_of(const CodePoints& set, const std::string& where);
  /// What tokenizer.json writes as {"Regex": "..."} or {"String": "..."}.
  static Pattern read(const Json& json);

  /// All matches from left to right. They do not overlap, and may be empty.
  /// @param text UTF-8  @throws Error when the budget is used up
  std::vector<Span> matches(std::string_view text, Budget& budget) const;
  /// The text with every match replaced.
  std::string replace_all(std::string_view text, std::string_view content, Budget& budget) const;

 private:
  Pattern(const RegexNode& tree, const std::string& where);
  std::shared_ptr<const RegexProgram> program_;
};

}  // namespace kv
