#pragma once
/// @file
/// generation_config.json: how a checkpoint's makers want tokens to be drawn. Every key that
/// changes the result is computed as transformers does, or refused by name.
#include <filesystem>
#include <map>
#include <optional>
#include <vector>

#include "common/tensor/tensor.hpp"
#include "common/text/token.hpp"

namespace kv {

/// What happens to the logits before a token is drawn from them (transformers' logits processors),
/// in this order.
struct LogitRules {
  std::map<std::vector<Token>, float>
      sequence_bias;  ///< is added to the last token's logit when the others stand before
  float repetition_penalty =
      1.0f;  ///< divides a positive logit, and multiplies a negative one, of all tokens so far
  index_t no_repeat_ngram = 0;                ///< no n tokens in a row stand twice; 0: they may
  std::vector<std::vector<Token>> bad_words;  ///< never stand there; a stop token alone may
  index_t min_length = 0;                     ///< no stop token while prompt and answer are shorter
  index_t min_new_tokens = 0;                 ///< no stop token while the answer is shorter
  std::optional<Token> forced_first;          ///< of an answer to a prompt of one token
  std::vector<Token> forced_last;             ///< one of these, when max_new_tokens is reached
  std::vector<Token> suppressed;              ///< never drawn
  std::vector<Token> suppressed_first;        ///< never drawn as the first of an answer

  bool operator==(const LogitRules&) const = default;
};

/// What the file says; where it is silent, transformers' defaults.
struct GenerationConfig {
  std::vector<Token> stop;  ///< eos_token_id
  LogitRules rules;
  bool sample = false;  ///< do_sample; the rest only matters then
  double temperature = 1.0;
  index_t top_k = 50;
  double top_p = 1.0;
  double min_p = 0.0;
};

/// Reads generation_config.json or, where there is none, the same keys of config.json, as
/// transformers does.
/// @param sample whether tokens are drawn at random; none: as the file says
/// @throws Error "generation_config.json: num_beams is 4, which is not supported ..."
GenerationConfig read_generation_config(const std::filesystem::path& checkpoint,
                                        std::optional<bool> sample = std::nullopt);

/// eos_token_id alone, for who wants to know nothing else.
std::vector<Token> stop_tokens(const std::filesystem::path& checkpoint);

}  // namespace kv
