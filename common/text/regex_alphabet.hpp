#pragma once
/// @file
/// Characters as a pattern sees them. Two characters that are in the same sets of a pattern are the same to it, so that
/// a small alphabet is enough: a text becomes one byte for each character.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/text/code_points.hpp"

namespace kv {

/// The letters for some sets.
class RegexAlphabet {
 public:
  static constexpr std::size_t most_letters = 256;

  /// @param where names the pattern in errors  @throws Error when the sets need more than 256 letters
  RegexAlphabet(const std::vector<CodePoints>& sets, const std::string& where);

  /// One letter for each character.  @param text UTF-8
  std::string spell(std::string_view text) const;
  /// The letter of a character.
  std::uint8_t letter(char32_t character) const {
    return pages_[page_[character / page_size] + character % page_size];
  }
  /// One character of each letter.
  const std::vector<char32_t>& representatives() const { return representatives_; }

 private:
  static constexpr std::size_t page_size = 256;

  std::vector<std::uint32_t> page_;   // where the letters of 256 characters in a row begin
  std::vector<std::uint8_t> pages_;   // every page once
  std::vector<char32_t> representatives_;
};

}  // namespace kv
