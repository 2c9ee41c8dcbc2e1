#pragma once
/// @file
/// Reading what unicode_tables.hpp holds as text.
#include <string_view>
#include <vector>

#include "common/text/code_points.hpp"

namespace kv {

/// Numbers with one space between two.
std::vector<char32_t> read_numbers(std::string_view text, int base);

/// @param runs alternately how many code points are skipped and how many follow that are members
CodePoints read_runs(std::string_view runs);

}  // namespace kv
