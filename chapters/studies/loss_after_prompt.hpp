#pragma once
/// @file
/// What a cache costs in loss, on text that was not trained on: the second half of a passage, after its first half as a prompt.
#include "common/model/decoder.hpp"

namespace kv {

inline constexpr index_t passage_tokens = 1024, passage_prompt_tokens = 512;

struct LossAndBytes {
  double loss;        ///< nats per token
  std::size_t bytes;  ///< held at the end, of one passage
};

/// @param decoder with room for a passage in sequence 0  @param text of at least so many passages, and a token more
LossAndBytes loss_after_prompt(Decoder& decoder, const std::vector<Token>& text, index_t passages);

}  // namespace kv
