/// Any bytes as the body of a request for completions, the first one choosing between the two kinds: the reader says
/// Error in one line, or gives a request that keeps what completion_request.hpp promises.
#include "chapters/server/completion_request.hpp"
#include "common/text/utf8.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using kv::fuzz::require;

void check(const kv::CompletionRequest& request) {
  require(!request.prompts.empty() && request.answers >= 1 && request.prompts.size() * request.answers <= 128);
  require(!request.max_tokens || *request.max_tokens >= 1);
  require(!request.logprobs || *request.logprobs <= 20);
  require(request.stop.size() <= 16);
  for (const std::string& stop : request.stop) require(!stop.empty() && kv::is_utf8(stop));
  for (const kv::PromptText& prompt : request.prompts) {
    if (const auto* text = std::get_if<std::string>(&prompt)) require(kv::is_utf8(*text));
    else
      for (const kv::Token token : std::get<std::vector<kv::Token>>(prompt)) require(token >= 0);
  }
  require((request.api == kv::Api::chat) == !request.messages.empty());
  for (const kv::Message& message : request.messages) require(kv::is_utf8(message.role) && kv::is_utf8(message.content));
  require(request.stream || !request.stream_usage);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const kv::Api api = data[0] % 2 == 1 ? kv::Api::chat : kv::Api::completions;
  kv::fuzz::read_or_refuse([&] { check(kv::parse_completion_request(api, kv::fuzz::text_of(data + 1, size - 1))); });
  return 0;
}
