#pragma once
/// @file
/// One colour for each stage, in every figure of the book.
#include <cstddef>
#include <string_view>

namespace kv {

/// CSS colours for light and for dark pages.
struct PageColour {
  std::string_view light, dark;
};

/// Of the stage, or the kind of cache, that `name` begins with: "lru", "window of 256". Null for anything else.
const PageColour* stage_colour(std::string_view name);

/// For what is no stage, in order; none of them is a stage's.
PageColour other_colour(std::size_t number);

}  // namespace kv
