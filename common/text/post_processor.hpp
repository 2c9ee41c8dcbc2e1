#pragma once
/// @file
#include <vector>

#include "common/files/json.hpp"
#include "common/text/token.hpp"

namespace kv {

/// Tokens that stand before and after every text.
struct Frame {
  std::vector<Token> before, after;
};

/// The `post_processor` of tokenizer.json: TemplateProcessing (for one text), ByteLevel (which is about positions in
/// the text and adds nothing), or a Sequence of them.
/// @throws Error naming what else is declared
Frame read_post_processor(const Json& post_processor);

}  // namespace kv
