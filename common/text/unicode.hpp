#pragma once
/// @file
/// What Unicode says about characters. The one place that includes the Unicode library is unicode.cpp.
#include <string>
#include <string_view>

namespace kv {

/// The property White_Space.
bool is_white_space(char32_t character);
/// A digit, a letter used as a number, or another number: the categories Nd, Nl and No.
bool is_number(char32_t character);
/// Part of a word: letters, marks, digits, and what joins them.  @see Unicode Technical Standard 18, annex C, \\w
bool is_word_character(char32_t character);

/// Normalization Form C: a letter and its accents become one character where there is one.
/// @param text UTF-8  @see Unicode Standard Annex 15
std::string nfc(std::string_view text);

}  // namespace kv
