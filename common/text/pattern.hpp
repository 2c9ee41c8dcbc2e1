#pragma once
/// @file
/// Regular expressions over Unicode text. The one place that includes the library (PCRE2) is pattern.cpp.
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/files/json.hpp"

namespace kv {

/// Bytes begin ... end-1 of a text.
struct Span {
  std::size_t begin, end;
};

/// A compiled pattern. Cheap to copy; may be used by several threads at once.
class Pattern {
 public:
  /// A pattern in Oniguruma's language, for which tokenizer.json is written; it differs from PCRE2's in places.
  /// @param where names it in errors  @throws Error for a pattern that is not valid or would mean something else here
  static Pattern regex(std::string_view pattern, const std::string& where);
  /// Matches this text only.
  static Pattern literal(std::string_view text, const std::string& where);
  /// What tokenizer.json writes as {"Regex": "..."} or {"String": "..."}.
  static Pattern read(const Json& json);

  /// All matches from left to right. They do not overlap, and may be empty.
  /// @param text UTF-8  @throws Error when a match takes too many steps
  std::vector<Span> matches(std::string_view text) const;

 private:
  struct Compiled;
  explicit Pattern(std::shared_ptr<const Compiled> compiled) : compiled_(std::move(compiled)) {}
  std::shared_ptr<const Compiled> compiled_;
};

/// The text with every match replaced.
std::string replace_all(const Pattern& pattern, std::string_view text, std::string_view content);

/// Rewrites Oniguruma's pattern language to PCRE2's.
/// @param where names the pattern in errors  @throws Error for what has another meaning there
std::string to_pcre2(std::string_view pattern, const std::string& where);

}  // namespace kv
