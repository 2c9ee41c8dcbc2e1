#pragma once
/// @file
/// What kind of token an id is.
#include <memory>
#include <vector>

#include "common/checkpoint/checkpoint.hpp"
#include "common/text/token.hpp"

namespace kv {

enum class TokenKind : unsigned char {
  word,
  punctuation,  ///< nothing but punctuation of ASCII, blanks aside
  special,      ///< begin of text, end of a turn
};

/// (ids) the kind of each id of a tokenizer.
using TokenKinds = std::vector<TokenKind>;

/// From the checkpoint's tokenizer.json. Without that file no token is known to be anything: empty.
/// @throws Error as Tokenizer
std::shared_ptr<const TokenKinds> token_kinds(const Checkpoint& checkpoint);

}  // namespace kv
