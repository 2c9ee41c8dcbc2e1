#pragma once
/// @file
#include <string>
#include <string_view>

namespace kv {

/// Normalization Form C: a letter and its accents become one character where there is one. As of Unicode 9.0, which is
/// what the reference knows (unicode.hpp): later characters stay as they are.
/// @param text UTF-8  @see Unicode Standard Annex 15
std::string nfc(std::string_view text);

}  // namespace kv
