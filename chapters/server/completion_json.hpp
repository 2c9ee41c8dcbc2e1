#pragma once
/// @file
/// What the server says, as JSON in the form of OpenAI's API.
/// @see https://platform.openai.com/docs/api-reference/completions and .../chat
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chapters/09_paged_cache/scheduler.hpp"
#include "chapters/server/completion_request.hpp"

namespace kv {

/// A token as a client sees it, with natural logarithms of the probabilities that the model gave: before any rule, and at
/// temperature 1.
struct TokenLogprobs {
  std::string text;
  double logprob;
  std::vector<std::pair<std::string, double>> top;  ///< the most likely ones, in this order
};

/// A part of one answer, or all of it.
struct ChoicePart {
  index_t index;
  std::string text;
  std::optional<std::string> finish = {};
  std::vector<TokenLogprobs> logprobs = {};
  index_t text_offset = 0;  ///< characters of the tokens before these
  bool opens = false;       ///< the first part of a stream
};

struct Usage {
  index_t prompt = 0, cached = 0, completion = 0;  ///< tokens; cached ones are part of the prompt
};

/// What all parts of an answer have in common.
struct Envelope {
  Api api;
  bool stream, logprobs;
  std::string id, model;
  std::int64_t created;  ///< seconds since 1970
};

/// Characters of a text that is UTF-8.
index_t characters(std::string_view text);

std::string completion_json(const Envelope& envelope, std::span<const ChoicePart> choices, const std::optional<Usage>& usage);
std::string error_json(int status, std::string_view code, std::string_view message);
std::string models_json(const std::string& model, index_t context, std::int64_t created);
/// The pool for the page: of every page "free", "kept" or the numbers of the requests that hold it.
std::string pool_json(const SchedulerStats& stats, const std::vector<PageView>& pages);

}  // namespace kv
