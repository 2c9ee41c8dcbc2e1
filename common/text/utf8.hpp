#pragma once
/// @file
/// UTF-8, one character at a time. What is not UTF-8 becomes U+FFFD, once for each maximal part that began like a
/// character: what Python's `bytes.decode("utf-8", "replace")` and browsers do.
/// @see The Unicode Standard, section 3.9, table 3-7 and "U+FFFD Substitution of Maximal Subparts"
#include <cstddef>
#include <string>
#include <string_view>

namespace kv {

/// U+FFFD as UTF-8.
inline constexpr std::string_view replacement_character = "\xEF\xBF\xBD";

/// What stands at the front of some bytes.
struct Utf8Front {
  enum { character, broken, unfinished } kind;  ///< unfinished: the bytes end inside a character
  std::size_t length;                           ///< bytes
};

/// @param bytes not empty
Utf8Front utf8_front(std::string_view bytes);

bool is_utf8(std::string_view bytes);

/// The same text where it is UTF-8, and U+FFFD elsewhere.
std::string replace_invalid_utf8(std::string_view bytes);

/// Bytes of the first character of a text that is UTF-8 and not empty.
inline std::size_t character_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/// The code point of one character.
char32_t code_point(std::string_view character);

/// The character as UTF-8.
std::string to_utf8(char32_t code_point);

}  // namespace kv
