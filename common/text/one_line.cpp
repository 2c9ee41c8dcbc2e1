#include "common/text/one_line.hpp"

#include "common/text/utf8.hpp"

namespace kv {
namespace {

constexpr std::size_t most_bytes = 600, bytes_of_the_end = 200;

/// Control characters, line separators, and marks that turn the direction of what follows.
/// @see Unicode Technical Report 36, section 2.3; CVE-2021-42574
bool acts(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x61C || c == 0x200E || c == 0x200F || (c >= 0x2028 && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

std::string shown(std::string_view bytes) {
  const std::string text = replace_invalid_utf8(bytes);
  std::string line;
  for (std::size_t i = 0; i < text.size();) {
    const std::string_view character = std::string_view(text).substr(i, character_length(std::string_view(text).substr(i)));
    line += acts(code_point(character)) ? "?" : character;
    i += character.size();
  }
  return line;
}

bool is_inside_a_character(std::string_view text, std::size_t at) { return (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80; }

/// The beginning and the end of what is too long. No character has more than three bytes behind its first.
std::string shortened(std::string_view text) {
  if (text.size() <= most_bytes) return std::string(text);
  std::size_t head = most_bytes - bytes_of_the_end, tail = text.size() - bytes_of_the_end;
  for (int i = 0; i < 3 && is_inside_a_character(text, head); ++i) --head;
  for (int i = 0; i < 3 && is_inside_a_character(text, tail); ++i) ++tail;
  return std::string(text.substr(0, head)) + " [...] " + std::string(text.substr(tail));
}

}  // namespace

// Twice: what is no character becomes three bytes.
std::string one_line(std::string_view message) { return shortened(shown(shortened(message))); }

}  // namespace kv
