#pragma once
/// @file
/// Reads a template.
#include <string_view>

#include "common/text/jinja/syntax.hpp"

namespace kv::jinja {

/// @throws Error "line 3: ..." for what is not Jinja, and for tags that published chat templates do
/// not use
Block parse(std::string_view source);

}  // namespace kv::jinja
