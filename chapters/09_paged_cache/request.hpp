#pragma once
/// @file
/// What a client asks for, and what it hears.
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "common/checkpoint/generation_config.hpp"
#include "common/model/sampler.hpp"

namespace kv {

/// Ascending in the order of arrival.
using RequestId = std::uint64_t;

/// A token of an answer.
struct DrawnToken {
  RequestId request;
  index_t answer;  ///< which of the request's, from 0
  Token token;
  std::span<const float> logits;  ///< (V), as the model gave them, before the rules; good during the call only
};

/// Why an answer has ended.
enum class Finish {
  stop,       ///< at a stop token, which is part of it
  length,     ///< after max_new_tokens
  cancelled,  ///< by cancel(), or because on_token wanted no more
  failed,     ///< by an error: see EndedAnswer::error
};

/// The last that is heard of an answer.
struct EndedAnswer {
  RequestId request;
  index_t answer;
  Finish finish;
  std::string error = {};     ///< one line when it failed
  index_t prompt_tokens = 0;  ///< of the request
  index_t reused_tokens = 0;  ///< of these, found in the cache when it was first admitted: never computed for it
  index_t new_tokens = 0;     ///< of this answer
  index_t preemptions = 0;    ///< how often it gave its pages back and was computed again
};

/// One prompt and how it is to be continued. Both functions are called in the thread that steps, without a lock held: they
/// may submit and cancel, and must not wait for a later step. One that throws ends its answer as failed.
struct Request {
  std::vector<Token> prompt;
  index_t answers = 1;         ///< the prompt is computed once for all of them
  index_t max_new_tokens = 16;  ///< of each answer
  LogitRules rules = {};
  Sampling sampling = {};       ///< answer i draws with seed + i, from a generator of its own
  std::vector<Token> stop = {};  ///< any of these ends an answer
  /// Every token, as it is drawn.  @return whether to go on: false at a stop string, or when the client has left
  std::function<bool(const DrawnToken&)> on_token = [](const DrawnToken&) { return true; };
  /// Once for every answer of a request that was accepted, whatever becomes of it.
  std::function<void(const EndedAnswer&)> on_end = [](const EndedAnswer&) {};
};

}  // namespace kv
