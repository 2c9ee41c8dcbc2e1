#pragma once
/// @file
/// Matching by backtracking, as Oniguruma does, with a limit to the work.
#include <string_view>
#include <vector>

#include "common/text/budget.hpp"
#include "common/text/regex_program.hpp"

namespace kv {

/// Bytes begin ... end-1 of a text.
struct Span {
  std::size_t begin, end;
};

/// All matches from left to right. They do not overlap, and may be empty.
/// @param text UTF-8  @throws Error when the budget is used up
std::vector<Span> find_matches(const RegexProgram& program, std::string_view text, Budget& budget);

}  // namespace kv
