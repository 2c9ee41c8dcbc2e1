#pragma once
/// @file
/// The body of a request for completions, read and checked: every field is understood, known to change nothing, or refused
/// by its name.
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/files/error.hpp"
#include "common/files/json.hpp"
#include "common/text/chat_template.hpp"
#include "common/text/token.hpp"

namespace kv {

/// A request that cannot be answered as it is, and what the client hears.
struct RequestError : Error {
  RequestError(int status, std::string code, const std::string& message)
      : Error(message), status(status), code(std::move(code)) {}
  int status;        ///< of HTTP
  std::string code;  ///< a word for programs, as "model_not_found"
};

/// Which of the two ways to ask.
enum class Api { completions, chat };

using PromptText = std::variant<std::string, std::vector<Token>>;

/// What a client asked for. What it left out is for the model to say.
struct CompletionRequest {
  Api api;
  std::string model = {};
  std::vector<PromptText> prompts = {};  ///< completions: at least one
  std::vector<Message> messages = {};    ///< chat: at least one
  index_t answers = 1;                   ///< to each prompt: 1 ... 128
  std::optional<index_t> max_tokens = {};
  std::optional<double> temperature = {}, top_p = {}, min_p = {};
  std::optional<index_t> top_k = {};
  std::optional<std::uint64_t> seed = {};
  std::vector<std::string> stop = {};       ///< none is empty, at most 16
  bool ignore_stop_tokens = false;
  std::optional<index_t> logprobs = {};     ///< how many alternatives beside each token: 0 ... 20
  bool stream = false, stream_usage = false;
};

/// Reads a body.
/// @throws Error "the request: temperature is text, expected a number", RequestError for a field that is not supported
CompletionRequest parse_completion_request(Api api, std::string_view body);

}  // namespace kv
