#pragma once
/// @file
/// Reading tokenizer.json: what it declares and this program does not know is an error, never ignored.
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/files/json.hpp"
#include "common/text/token.hpp"

namespace kv {

/// Text of a file, or of a user, for a message: in quotation marks, on one line, and not too long.
std::string excerpt(std::string_view text);

/// @throws Error "tokenizer.json: decoder.colour is not known"
void require_known_keys(const Json& object, std::initializer_list<std::string_view> known);

/// @throws Error "tokenizer.json: decoder.type is 'CTC', which is not supported here"
[[noreturn]] void throw_unknown_type(const Json& object);

/// The steps of a Sequence and of Sequences in it, in their order; anything else is one step.
/// @param key of a Sequence's list  @throws Error for more than 64 steps
std::vector<Json> read_steps(const Json& json, std::string_view key);

/// The value of a key that may be absent or null.
bool flag_or(const Json& object, std::string_view key, bool otherwise);
std::string text_or(const Json& object, std::string_view key, std::string_view otherwise);

/// A text of exactly one character.
std::string read_character(const Json& json);

/// An id: 0 ... 2^31 - 1.
Token read_token(const Json& id);

/// The two halves of a merge, in either spelling: "a b" or ["a", "b"].
std::pair<std::string, std::string> read_pair(const Json& merge);

}  // namespace kv
