#pragma once
/// @file
/// Applies the rules of generation_config.json to the logits of one token.
#include <span>

#include "common/checkpoint/generation_config.hpp"

namespace kv {

/// Where in a sequence a token is about to be drawn.
struct Place {
  std::span<const Token> so_far;  ///< prompt and answer
  index_t prompt;                 ///< so many of them are the prompt
  index_t max_new_tokens;         ///< the answer ends with so many
  std::span<const Token> stop;    ///< tokens that end it
};

/// @param logits (V), changed in place; -infinity: cannot be drawn
/// @throws Error when a rule names a token beyond the vocabulary, where transformers refuses it too
/// @see transformers, GenerationMixin._get_logits_processor
void apply(const LogitRules& rules, const Place& place, std::span<float> logits);

}  // namespace kv
