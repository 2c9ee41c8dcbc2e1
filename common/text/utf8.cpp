#include "common/text/utf8.hpp"

namespace kv {
namespace {

/// How a character goes on after its first byte. Only the second byte's range depends on the first: it keeps out
/// overlong forms, surrogates and what lies above U+10FFFF.
struct Lead {
  std::size_t length;  // of the whole character; 0: no character begins so
  unsigned char second_min = 0x80, second_max = 0xBF;
};

Lead lead(unsigned char first) {
  if (first <= 0x7F) return {1};
  if (first < 0xC2) return {0};
  if (first <= 0xDF) return {2};
  if (first == 0xE0) return {3, 0xA0, 0xBF};
  if (first == 0xED) return {3, 0x80, 0x9F};
  if (first <= 0xEF) return {3};
  if (first == 0xF0) return {4, 0x90, 0xBF};
  if (first <= 0xF3) return {4};
  if (first == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

}  // namespace

Utf8Front utf8_front(std::string_view bytes) {
  const Lead expected = lead(static_cast<unsigned char>(bytes.front()));
  if (expected.length == 0) return {Utf8Front::broken, 1};
  for (std::size_t i = 1; i < expected.length; ++i) {
    if (i == bytes.size()) return {Utf8Front::unfinished, i};
    const auto byte = static_cast<unsigned char>(bytes[i]);
    const bool second = i == 1;
    if (byte < (second ? expected.second_min : 0x80) || byte > (second ? expected.second_max : 0xBF))
      return {Utf8Front::broken, i};
  }
  return {Utf8Front::character, expected.length};
}

bool is_utf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const Utf8Front front = utf8_front(bytes);
    if (front.kind != Utf8Front::character) return false;
    bytes.remove_prefix(front.length);
  }
  return true;
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const Utf8Front front = utf8_front(bytes);
    text += front.kind == Utf8Front::character ? bytes.substr(0, front.length) : replacement_character;
    bytes.remove_prefix(front.length);
  }
  return text;
}

char32_t code_point(std::string_view character) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(character[i]); };
  switch (character.size()) {
    case 1: return byte(0);
    case 2: return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    case 3: return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    default: return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  }
}

std::string to_utf8(char32_t code_point) {
  const auto trail = [&](int shift) { return static_cast<char>(0x80 | (code_point >> shift & 0x3F)); };
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  if (code_point < 0x800) return {static_cast<char>(0xC0 | code_point >> 6), trail(0)};
  if (code_point < 0x10000) return {static_cast<char>(0xE0 | code_point >> 12), trail(6), trail(0)};
  return {static_cast<char>(0xF0 | code_point >> 18), trail(12), trail(6), trail(0)};
}

}  // namespace kv
