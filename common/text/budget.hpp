#pragma once
/// @file
/// A limit to the work that one text may cause. A tokenizer.json says what is done to a text, and a file could say
/// something without end: forty steps that each double it, a pattern that tries every way. Published files need some
/// sixty units for each byte.
#include <cstddef>
#include <string>

namespace kv {

/// Units of work: a step of a match is one, a byte that is written is `for_a_byte`.
class Budget {
 public:
  static constexpr std::size_t for_a_byte = 4;

  Budget() = default;
  /// @param text_bytes length of the text
  explicit Budget(std::size_t text_bytes) { add_text(text_bytes); }

  /// The text has so many bytes more.
  void add_text(std::size_t bytes) { left_ += bytes * 512; }

  /// @param where names what does the work, for the message  @throws Error when the budget is used up
  void spend(std::size_t work, const std::string& where) {
    if (work > left_) refuse(where);
    left_ -= work;
  }
  void spend_on_bytes(std::size_t bytes, const std::string& where) { spend(bytes * for_a_byte, where); }

 private:
  [[noreturn]] static void refuse(const std::string& where);

  std::size_t left_ = std::size_t{1} << 27;  // half a second, or 32 MB of text
};

}  // namespace kv
