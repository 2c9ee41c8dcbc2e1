#include "common/text/byte_alphabet.hpp"

#include <array>

#include "common/text/utf8.hpp"

namespace kv {
namespace {

bool stands_for_itself(int byte) {
  return (0x21 <= byte && byte <= 0x7E) || (0xA1 <= byte && byte <= 0xFF && byte != 0xAD);
}

struct Alphabet {
  std::array<std::string, 256> letter_of;
  std::array<std::optional<char>, 512> byte_of;  // by code point

  Alphabet() {
    char32_t next_free = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const char32_t letter = stands_for_itself(byte) ? static_cast<char32_t>(byte) : next_free++;
      letter_of[static_cast<std::size_t>(byte)] = to_utf8(letter);
      byte_of[letter] = static_cast<char>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet only;
  return only;
}

}  // namespace

std::string to_byte_alphabet(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (const char byte : bytes) text += alphabet().letter_of[static_cast<unsigned char>(byte)];
  return text;
}

std::optional<std::string> from_byte_alphabet(std::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    const char32_t letter = code_point(text.substr(0, length));
    if (letter >= alphabet().byte_of.size() || !alphabet().byte_of[letter]) return std::nullopt;
    bytes += *alphabet().byte_of[letter];
    text.remove_prefix(length);
  }
  return bytes;
}

}  // namespace kv
