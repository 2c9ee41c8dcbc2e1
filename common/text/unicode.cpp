#include "common/text/unicode.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "common/text/utf8.hpp"

namespace kv {

bool is_white_space(char32_t c) {
  return (0x09 <= c && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (0x2000 <= c && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_number(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO;
}

bool is_word_character(char32_t c) {
  // Two joiners, and circled and squared letters: alphabetic although their category says otherwise.
  if (c == 0x200C || c == 0x200D || (0x24B6 <= c && c <= 0x24E9) || (0x1F130 <= c && c <= 0x1F149) ||
      (0x1F150 <= c && c <= 0x1F169) || (0x1F170 <= c && c <= 0x1F189))
    return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return false;
  }
}

namespace {

constexpr auto canonical = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
using CodePoints = std::vector<utf8proc_int32_t>;

/// Every character in its smallest parts.
CodePoints decomposed(std::string_view text) {
  constexpr auto decompose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
  CodePoints parts;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    const auto character = static_cast<utf8proc_int32_t>(code_point(text.substr(0, length)));
    std::array<utf8proc_int32_t, 4> of_this;  // four at most: Unicode Standard Annex 15, section 12.1
    const auto count = utf8proc_decompose_char(character, of_this.data(), of_this.size(), decompose, nullptr);
    parts.insert(parts.end(), of_this.begin(), of_this.begin() + count);
    text.remove_prefix(length);
  }
  return parts;
}

/// Accents of one letter in their order. The library would do it too, in quadratic time.
void put_marks_in_order(CodePoints& parts) {
  const auto rank = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  const auto is_mark = [&](utf8proc_int32_t c) { return rank(c) != 0; };
  for (auto begin = parts.begin(); begin != parts.end();) {
    begin = std::find_if(begin, parts.end(), is_mark);
    const auto end = std::find_if_not(begin, parts.end(), is_mark);
    std::stable_sort(begin, end, [&](auto left, auto right) { return rank(left) < rank(right); });
    begin = end;
  }
}

}  // namespace

std::string nfc(std::string_view text) {
  CodePoints parts = decomposed(text);
  put_marks_in_order(parts);
  const auto length = utf8proc_normalize_utf32(parts.data(), static_cast<utf8proc_ssize_t>(parts.size()), canonical);
  std::string composed;
  for (utf8proc_ssize_t i = 0; i < length; ++i)
    composed += to_utf8(static_cast<char32_t>(parts[static_cast<std::size_t>(i)]));
  return composed;
}

}  // namespace kv
