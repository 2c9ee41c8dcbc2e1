#pragma once
/// @file
/// GPT-2's alphabet: every byte is written as one printable character, so that a vocabulary of byte strings is plain
/// text. Printable Latin-1 stands for itself, the other bytes get U+0100 and up: a space is U+0120.
/// @see Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2
#include <optional>
#include <string>
#include <string_view>

namespace kv {

/// Every byte as its character, in UTF-8.
std::string to_byte_alphabet(std::string_view bytes);

/// The bytes that a text spells; nothing when a character is not of the alphabet.
/// @param text UTF-8
std::optional<std::string> from_byte_alphabet(std::string_view text);

}  // namespace kv
