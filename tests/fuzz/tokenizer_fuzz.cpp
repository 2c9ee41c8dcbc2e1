/// Any bytes as tokenizer.json and, behind the first zero byte, as a text: the reader says Error, or text and tokens
/// keep what tokenizer.hpp promises.
#include "common/text/tokenizer.hpp"
#include "common/text/utf8.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using kv::fuzz::require;

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
  const kv::fuzz::Halves halves(kv::fuzz::text_of(data, size));
  kv::fuzz::read_or_refuse([&] { use(kv::Tokenizer(kv::Json::parse(halves.first, "fuzz")), halves.second); });
  return 0;
}
