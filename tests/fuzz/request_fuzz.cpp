/// Any bytes as the body of a request for completions, the first one choosing between the two kinds: the reader says
/// Error in one line, or gives a request that keeps what completion_request.hpp promises.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "chapters/server/completion_request.hpp"
#include "common/text/utf8.hpp"

namespace {

void require(bool condition) {
  if (!condition) std::abort();  // libFuzzer keeps the input
}

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
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const bool chat = size > 0 && data[0] % 2 == 1;
  try {
    check(kv::parse_completion_request(chat ? kv::Api::chat : kv::Api::completions, bytes.substr(std::min<std::size_t>(1, size))));
  } catch (const kv::Error& error) {
    require(std::strlen(error.what()) < 2000 && std::strchr(error.what(), '\n') == nullptr);
  }
  return 0;
}
