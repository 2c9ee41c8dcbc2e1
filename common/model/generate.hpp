#pragma once
/// @file
/// The generation loop: prefill once, then one token at a time.
#include <functional>

#include "common/checkpoint/generation_config.hpp"
#include "common/model/decoder.hpp"
#include "common/model/logit_rules.hpp"
#include "common/model/metrics.hpp"
#include "common/model/sampler.hpp"

namespace kv {

/// Draws a token from the logits (V), after the rules.
Token draw(Sampler& sampler, std::span<const float> logits, const LogitRules& rules, const Place& place);

/// When to stop, and who hears of it.
struct GenerateOptions {
  index_t max_new_tokens = 64;
  LogitRules rules = {};
  Sampling sampling;
  std::vector<Token> stop;  ///< ends the sequence, and is part of the result
  std::function<void(index_t sequence, Token)> on_token = [](index_t, Token) {};
  /// The (V) logits that the model gave for each token, before the rules. With none to hear of them they may never leave a device.
  std::function<void(index_t sequence, std::span<const float>)> on_logits = nullptr;
};

/// What generate() gives back.
struct Generation {
  std::vector<std::vector<Token>> tokens;  ///< new tokens of each prompt
  Metrics metrics;
};

/// Continues every prompt in a sequence of its own, all in one batch. A sequence that has met a stop token leaves the
/// batch. The last token drawn is not fed: nothing is computed that nobody asked for.
/// @throws Error as Decoder::logits, and when prompt and new tokens together would not fit (before any work)
Generation generate(Decoder& decoder, const std::vector<NewTokens>& prompts, const GenerateOptions& options);

}  // namespace kv
