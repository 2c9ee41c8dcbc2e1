#include "chapters/server/completion_request.hpp"

#include <algorithm>
#include <limits>
#include <span>

namespace kv {
namespace {

using Request = CompletionRequest;

index_t size_up_to(const Json& value, index_t least, index_t most) {
  const index_t size = value.size();
  if (size < least || size > most)
    throw Error(value.where() + " is " + std::to_string(size) + ", expected " + std::to_string(least) + " to " +
                std::to_string(most));
  return size;
}

std::vector<Token> token_ids(const Json& list) {
  std::vector<Token> tokens;
  for (index_t i = 0; i < list.length(); ++i)
    tokens.push_back(static_cast<Token>(size_up_to(list.at(i), 0, std::numeric_limits<Token>::max())));
  return tokens;
}

PromptText prompt_text(const Json& value) {
  if (value.is_text()) return value.text();
  return token_ids(value);
}

/// A text, token ids, or a list of either.
void read_prompts(Request& request, const Json& value) {
  const bool several = value.is_array() && value.length() > 0 && !value.at(0).is_number();
  if (!several) return request.prompts.push_back(prompt_text(value));
  if (value.length() > 128) throw Error(value.where() + " has more than 128 prompts");
  for (index_t i = 0; i < value.length(); ++i) request.prompts.push_back(prompt_text(value.at(i)));
}

/// Fields of an object that may hold nothing but these, and null.
void require_only(const Json& object, std::span<const std::string_view> known) {
  for (const std::string& key : object.keys())
    if (std::ranges::find(known, key) == known.end() && object.has(key))
      throw RequestError(400, "unsupported_field", object.at(key).where() + " is not supported");
}

/// A text, or the text parts of one.
std::string content(const Json& value) {
  if (value.is_text()) return value.text();
  std::string text;
  for (index_t i = 0; i < value.length(); ++i) {
    const Json part = value.at(i);
    require_only(part, std::array<std::string_view, 2>{"type", "text"});
    if (part.at("type").text() != "text")
      throw RequestError(400, "unsupported_field", part.at("type").where() + " must be \"text\": nothing else is read");
    text += (i == 0 ? "" : "\n") + part.at("text").text();
  }
  return text;
}

void read_messages(Request& request, const Json& value) {
  for (index_t i = 0; i < value.length(); ++i) {
    const Json message = value.at(i);
    require_only(message, std::array<std::string_view, 2>{"role", "content"});
    request.messages.push_back({message.at("role").text(), content(message.at("content"))});
  }
  if (request.messages.empty()) throw Error(value.where() + " is empty");
}

void read_stop(Request& request, const Json& value) {
  if (value.is_text()) request.stop.push_back(value.text());
  else
    for (index_t i = 0; i < value.length(); ++i) request.stop.push_back(value.at(i).text());
  if (request.stop.size() > 16) throw Error(value.where() + " has more than 16 texts");
  if (std::ranges::find(request.stop, "") != request.stop.end()) throw Error(value.where() + " holds an empty text");
}

void read_max_tokens(Request& request, const Json& value) {
  const index_t tokens = value.size();
  if (tokens == 0) throw Error(value.where() + " is 0, expected at least 1");
  if (request.max_tokens && *request.max_tokens != tokens)
    throw Error(value.where() + " is not what the same field's older name says");
  request.max_tokens = tokens;
}

void read_stream_options(Request& request, const Json& value) {
  require_only(value, std::array<std::string_view, 1>{"include_usage"});
  request.stream_usage = value.has("include_usage") && value.at("include_usage").flag();
}

/// A field that is not supported may still be there, with a value that asks for nothing.
template <bool (*is_nothing)(const Json&)>
void only(Request&, const Json& value) {
  if (!is_nothing(value)) throw RequestError(400, "unsupported_field", value.where() + " is not supported");
}

bool number_0(const Json& value) { return value.is_number() && value.number() == 0; }
bool number_1(const Json& value) { return value.is_number() && value.number() == 1; }
bool flag_false(const Json& value) { return value.is_flag() && !value.flag(); }
bool word_none(const Json& value) { return value.is_text() && value.text() == "none"; }
bool empty(const Json& v) {
  return (v.is_array() && v.length() == 0) || (v.is_object() && v.keys().empty()) || (v.is_text() && v.text().empty());
}
bool plain_text(const Json& v) {
  return v.is_object() && v.keys().size() == 1 && v.has("type") && v.at("type").is_text() && v.at("type").text() == "text";
}
void ignored(Request&, const Json&) {}

struct Field {
  std::string_view name;
  std::optional<Api> api;  // none: both
  void (*read)(Request&, const Json&);
};

const Field fields[] = {
    {"model", {}, [](Request& r, const Json& v) { r.model = v.text(); }},
    {"prompt", Api::completions, read_prompts},
    {"messages", Api::chat, read_messages},
    {"n", {}, [](Request& r, const Json& v) { r.answers = size_up_to(v, 1, 128); }},
    {"max_tokens", {}, read_max_tokens},
    {"max_completion_tokens", Api::chat, read_max_tokens},
    {"temperature", {}, [](Request& r, const Json& v) { r.temperature = v.number(); }},
    {"top_p", {}, [](Request& r, const Json& v) { r.top_p = v.number(); }},
    {"top_k", {}, [](Request& r, const Json& v) { r.top_k = v.size(); }},
    {"min_p", {}, [](Request& r, const Json& v) { r.min_p = v.number(); }},
    {"seed", {}, [](Request& r, const Json& v) { r.seed = static_cast<std::uint64_t>(v.integer()); }},
    {"stop", {}, read_stop},
    {"ignore_eos", {}, [](Request& r, const Json& v) { r.ignore_stop_tokens = v.flag(); }},
    {"logprobs", Api::completions, [](Request& r, const Json& v) { r.logprobs = size_up_to(v, 0, 20); }},
    {"logprobs", Api::chat, [](Request& r, const Json& v) { if (v.flag() && !r.logprobs) r.logprobs = 0; }},
    {"top_logprobs", Api::chat, [](Request& r, const Json& v) { r.logprobs = size_up_to(v, 0, 20); }},
    {"stream", {}, [](Request& r, const Json& v) { r.stream = v.flag(); }},
    {"stream_options", {}, read_stream_options},
    // Known, and not done: allowed where they ask for nothing.
    // [harmless]
    {"frequency_penalty", {}, only<number_0>},
    {"presence_penalty", {}, only<number_0>},
    {"repetition_penalty", {}, only<number_1>},
    {"best_of", Api::completions, only<number_1>},
    {"echo", Api::completions, only<flag_false>},
    // [harmless]
    {"suffix", Api::completions, only<empty>},
    {"logit_bias", {}, only<empty>},
    {"tools", Api::chat, only<empty>},
    {"tool_choice", Api::chat, only<word_none>},
    {"functions", Api::chat, only<empty>},
    {"function_call", Api::chat, only<word_none>},
    {"response_format", {}, only<plain_text>},
    // Notes of the client to itself, or to a service behind an account: no answer depends on them.
    {"user", {}, ignored},
    {"metadata", {}, ignored},
    {"store", {}, ignored},
    {"service_tier", {}, ignored},
    {"safety_identifier", {}, ignored},
    {"prompt_cache_key", {}, ignored},
};

const Field& find_field(Api api, const Json& value, const std::string& name) {
  for (const Field& field : fields)
    if (field.name == name && field.api.value_or(api) == api) return field;
  throw RequestError(400, "unknown_field", value.where() + " is a field that this server does not know");
}

}  // namespace

CompletionRequest parse_completion_request(Api api, std::string_view body) {
  const Json json = Json::parse(body, "the request");
  Request request{.api = api};
  for (const std::string& key : json.keys()) {
    const Field& field = find_field(api, json.at(key), key);
    if (json.has(key)) field.read(request, json.at(key));  // null is as if it were not there
  }
  if (api == Api::chat && json.has("top_logprobs") && !(json.has("logprobs") && json.at("logprobs").flag()))
    throw Error("the request: top_logprobs asks for logprobs to be true");
  if (request.prompts.empty()) request.prompts.resize(api == Api::chat ? 1 : 0);
  if (api == Api::completions ? request.prompts.empty() : request.messages.empty())
    throw Error(std::string("the request: ") + (api == Api::chat ? "messages" : "prompt") + " is missing");
  if (request.prompts.size() * request.answers > 128) throw Error("the request: asks for more than 128 answers");
  if (request.stream_usage && !request.stream) throw Error("the request: stream_options without stream");
  return request;
}

}  // namespace kv
