#include "chapters/server/completion_json.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/text/utf8.hpp"

namespace kv {
namespace {

using Library = nlohmann::ordered_json;

/// In one line; what is not UTF-8 becomes U+FFFD.
std::string line(const Library& json) { return json.dump(-1, ' ', false, Library::error_handler_t::replace); }

/// The bytes of a token's text. Of half a character they are not known.
Library bytes_json(const std::string& text) {
  if (text.find(replacement_character) != text.npos) return nullptr;
  Library bytes = Library::array();
  for (const char byte : text) bytes.push_back(static_cast<unsigned char>(byte));
  return bytes;
}

Library chat_token_json(const std::string& text, double logprob) {
  return {{"token", text}, {"logprob", logprob}, {"bytes", bytes_json(text)}};
}

Library chat_logprobs(const ChoicePart& choice) {
  Library content = Library::array();
  for (const TokenLogprobs& token : choice.logprobs) {
    Library entry = chat_token_json(token.text, token.logprob);
    entry["top_logprobs"] = Library::array();
    for (const auto& [text, logprob] : token.top) entry["top_logprobs"].push_back(chat_token_json(text, logprob));
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}};
}

Library completion_logprobs(const ChoicePart& choice) {
  Library tokens = Library::array(), own = Library::array(), top = Library::array(), offsets = Library::array();
  index_t offset = choice.text_offset;
  for (const TokenLogprobs& token : choice.logprobs) {
    tokens.push_back(token.text);
    own.push_back(token.logprob);
    Library likely = Library::object();
    for (const auto& [text, logprob] : token.top) likely.emplace(text, logprob);  // of equal texts the more likely one
    top.push_back(std::move(likely));
    offsets.push_back(offset);
    offset += characters(token.text);
  }
  return {{"tokens", tokens}, {"token_logprobs", own}, {"top_logprobs", top}, {"text_offset", offsets}};
}

Library choice_json(const Envelope& envelope, const ChoicePart& choice) {
  const bool chat = envelope.api == Api::chat;
  Library json{{"index", choice.index}};
  if (!chat) json["text"] = choice.text;
  else {
    Library message = Library::object();
    if (choice.opens || !envelope.stream) message["role"] = "assistant";
    if (choice.opens || !choice.text.empty() || !envelope.stream) message["content"] = choice.text;
    json[envelope.stream ? "delta" : "message"] = std::move(message);
  }
  json["logprobs"] = !envelope.logprobs ? Library() : chat ? chat_logprobs(choice) : completion_logprobs(choice);
  json["finish_reason"] = choice.finish ? Library(*choice.finish) : Library();
  return json;
}

}  // namespace

index_t characters(std::string_view text) {
  return static_cast<index_t>(std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string completion_json(const Envelope& envelope, std::span<const ChoicePart> choices, const std::optional<Usage>& usage) {
  const bool chat = envelope.api == Api::chat;
  Library json{{"id", envelope.id},
               {"object", !chat ? "text_completion" : envelope.stream ? "chat.completion.chunk" : "chat.completion"},
               {"created", envelope.created},
               {"model", envelope.model},
               {"choices", Library::array()}};
  for (const ChoicePart& choice : choices) json["choices"].push_back(choice_json(envelope, choice));
  if (usage)
    json["usage"] = {{"prompt_tokens", usage->prompt},
                     {"completion_tokens", usage->completion},
                     {"total_tokens", usage->prompt + usage->completion},
                     {"prompt_tokens_details", {{"cached_tokens", usage->cached}}}};
  return line(json);
}

std::string error_json(int status, std::string_view code, std::string_view message) {
  return line({{"error",
                {{"message", message},
                 {"type", status < 500 ? "invalid_request_error" : "server_error"},
                 {"param", nullptr},
                 {"code", code}}}});
}

std::string models_json(const std::string& model, index_t context, std::int64_t created) {
  const Library entry{
      {"id", model}, {"object", "model"}, {"created", created}, {"owned_by", "kvbook"}, {"max_model_len", context}};
  return line({{"object", "list"}, {"data", Library::array({entry})}});
}

std::string pool_json(const SchedulerStats& stats, const std::vector<PageView>& pages) {
  Library list = Library::array();
  for (const PageView& page : pages) {
    Library owners = Library::array();
    for (const std::uint64_t request : page.requests) owners.push_back(request);
    list.push_back(!page.sequences.empty() ? owners : Library(page.found ? "kept" : "free"));
  }
  return line({{"page_rows", stats.pages.page_rows},
               {"running", stats.running},
               {"waiting", stats.waiting},
               {"preemptions", stats.preemptions},
               {"hit_rate", stats.hit_rate()},
               {"pages", std::move(list)}});
}

}  // namespace kv
