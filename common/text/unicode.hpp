#pragma once
/// @file
/// What Unicode says about characters, from tables of our own: the same on every machine. The versions are those of
/// the reference, Hugging Face tokenizers 0.23.3, and it has several: regular expressions and added tokens 16.0, the
/// Digits step 17.0, normalization 9.0.
#include <optional>
#include <string_view>

#include "common/text/code_points.hpp"

namespace kv {

/// A general category, a script, or one of Oniguruma's own names: "L", "Lu", "Uppercase_Letter", "Han", "Alphabetic",
/// "Space". Capitals, spaces, hyphens and underscores do not count.
/// @return nothing for a name that is not one of them
std::optional<CodePoints> unicode_set(std::string_view name);

/// The property White_Space.
bool is_white_space(char32_t character);
/// Letters, marks, digits, and what joins them, without the two joiners of no width.
/// @see Unicode Technical Standard 18, annex C, \\w
const CodePoints& word_characters();
/// Digits, letters used as numbers, and other numbers: the categories Nd, Nl and No of Unicode 17.
const CodePoints& numbers();

}  // namespace kv
