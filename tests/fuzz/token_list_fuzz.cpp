/// Any bytes as what stands behind --tokens: refused, or ids that are not negative.
#include "chapters/program/command.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = kv::fuzz::text_of(data, size);
  if (text.starts_with('@') || text.size() > 500 || text.find('\n') != text.npos) return 0;  // a file's name; what is quoted whole
  kv::fuzz::read_or_refuse([&] {
    for (const kv::Token token : kv::parse_tokens(std::string(text))) kv::fuzz::require(token >= 0);
  });
  return 0;
}
