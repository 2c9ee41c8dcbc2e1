#pragma once
/// @file
/// Oniguruma's pattern language, in which tokenizer.json writes its regular expressions.
#include <string>
#include <string_view>

#include "common/text/regex_tree.hpp"

namespace kv {

/// Reads a pattern. What Oniguruma 6.9.10 knows and this reader does not is an error that names it: references to
/// groups and calls of them, conditions, callouts, absent functions, named groups, comments, \\K \\G \\R \\X \\y \\Y,
/// single bytes, and case-insensitive letters outside ASCII.
/// @param pattern UTF-8  @param where names the pattern in errors
/// @throws Error for a pattern that is not valid, not supported, or longer than 16 KiB
/// @see https://github.com/kkos/oniguruma/blob/v6.9.10/doc/RE
RegexNode parse_regex(std::string_view pattern, const std::string& where);

/// \\w outside of brackets: Oniguruma counts the fractions and superscripts of Latin-1 in.
CodePoints regex_word();

}  // namespace kv
