#pragma once
/// @file
/// Texts as Python treats them: counted in characters, not bytes.
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/text/jinja/meter.hpp"

namespace kv::jinja {

/// str.isspace
bool is_space(char32_t character);

/// @param text UTF-8, here and below
std::vector<std::string_view> characters(std::string_view text, Meter& meter);

enum class Side { left, right, both };
/// str.strip, lstrip, rstrip.  @param characters that go; none: white space
std::string_view strip(std::string_view text, Side side, const std::string* characters = nullptr);

/// str.split.  @param separator none: runs of white space  @param most splits; negative: all
std::vector<std::string> split(std::string_view text, const std::string* separator,
                               std::int64_t most, Meter& meter);

/// str.replace.  @param most replacements; negative: all
std::string replace(std::string_view text, std::string_view old, std::string_view with,
                    std::int64_t most, Meter& meter);

/// str.upper, lower, capitalize.  @throws Error for letters outside of ASCII: what case they have
/// is a table of its own
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);

/// datetime.strftime, as far as a date goes: years, months, days and their English names.
std::string strftime(const std::chrono::year_month_day& date, std::string_view format);

/// What a slice takes of `length` items: positions that are inside, in the order of the result.
/// @param start, stop none: from the beginning, to the end (the other way round with a negative
/// step)
std::vector<std::size_t> slice_positions(std::int64_t length, std::optional<std::int64_t> start,
                                         std::optional<std::int64_t> stop, std::int64_t step,
                                         Meter& meter);

}  // namespace kv::jinja
