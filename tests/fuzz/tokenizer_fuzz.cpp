/// Any bytes as tokenizer.json and, behind the first zero byte, as a text: the reader says Error, or text and tokens
/// keep what tokenizer.hpp promises.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "common/files/error.hpp"
#include "common/text/tokenizer.hpp"
#include "common/text/utf8.hpp"

namespace {

void require(bool condition) {
  if (!condition) std::abort();  // libFuzzer keeps the input
}

void use(const kv::Tokenizer& tokenizer, std::string_view text) {
  std::vector<kv::Token> tokens = tokenizer.encode_with_special(text);
  for (const kv::Token token : tokens) require(token >= 0 && static_cast<kv::index_t>(token) < tokenizer.size());
  require(kv::is_utf8(tokenizer.decode(tokens)));

  kv::TextStream stream(tokenizer);
  std::string streamed;
  for (const kv::Token token : tokens) {
    const std::string piece = stream.push(token);
    require(kv::is_utf8(piece));
    streamed += piece;
  }
  std::erase_if(tokens, [&](kv::Token token) { return tokenizer.is_special(token); });
  require(streamed + stream.finish() == tokenizer.decode(tokens));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(bytes.find('\0'), size);
  try {
    use(kv::Tokenizer(kv::Json::parse(bytes.substr(0, end), "fuzz")), bytes.substr(std::min(end + 1, size)));
  } catch (const kv::Error& error) {
    require(std::strlen(error.what()) < 2000 && std::strchr(error.what(), '\n') == nullptr);
  }
  return 0;
}
