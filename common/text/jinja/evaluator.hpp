#pragma once
/// @file
/// Renders a template.
#include <chrono>
#include <map>
#include <optional>
#include <string>

#include "common/text/jinja/syntax.hpp"

namespace kv::jinja {

/// What a template is given.
struct Given {
  std::map<std::string, Value, std::less<>> variables;
  std::optional<std::chrono::year_month_day> today;  ///< for `strftime_now`
};

/// @throws Error "line 3: ..." for what a template must not do or this program does not know, for
/// more work or memory than a conversation needs, and for what the template itself raises
std::string render_block(const Block& block, const Given& given, Meter& meter);

}  // namespace kv::jinja
